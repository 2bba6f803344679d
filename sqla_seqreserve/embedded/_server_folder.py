"""The folder of an embedded server, as its owners and its keeper both know it.

::

    pgdata/       the cluster, PostgreSQL's "data directory"
    socket/       the server's Unix socket, unless the path is too long for one, or has a comma
    owners/       one locked file for each process that uses the server
    mutex         held while owners come and go, and during the shutdown
    keeper        held by the keeper as long as it lives
    ready         there as soon as the server that this keeper runs can be used
    password      of the user postgres, for servers that listen on the loopback interface
    server.log    what the server said since it was last started
    binaries/     a copy of the programs, if the server's account cannot run them in place

Whoever uses the server holds a lock on a file of its own in ``owners/``, and the kernel takes that
lock back however the process ends, ``SIGKILL`` included. The module imports the standard library
only, for the keeper's sake.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@dataclass(frozen=True)
class Endpoint:
    """The address at which a running server listens, from its postmaster.pid."""

    pid: int
    port: int
    socket_dir: str
    ready: bool

    def answers(self) -> bool:
        """Whether something accepts connections there: a pid may belong to a new process."""
        try:
            if self.socket_dir and sys.platform != "win32":
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(f"{self.socket_dir}/.s.PGSQL.{self.port}")
            else:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


class FileLock:
    """An exclusive lock on a file, which ends with the process that holds it.

    POSIX record locks rather than ``flock``: a forked child does not inherit them, so that an
    orphaned worker does not keep the server of a parent that was killed. They belong to the whole
    process, and end when it closes *any* descriptor of the file: never open a lock file that this
    process already holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, *, blocking: bool = True, create: bool = True) -> bool:
        fd = open_in_folder(self.path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            acquired = _lock(fd, blocking=blocking)
        except BaseException:
            os.close(fd)
            raise
        if acquired:
            self._fd = fd
        else:
            os.close(fd)
        return acquired

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(fd: int, *, blocking: bool) -> bool:
    if sys.platform == "win32":
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            except OSError:
                if not blocking:
                    return False
                time.sleep(0.05)
            else:
                return True
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    return True


def open_in_folder(path: Path, flags: int) -> int:
    """Open a file of the folder, never through a link; a new one is closed to other users."""
    fd = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if flags & os.O_CREAT:
        belong_to_folder(path)
    return fd


def belong_to_folder(path: Path) -> None:
    """Give a file or folder to the owner of the folder it is in, who could not use it if root's."""
    if sys.platform != "win32" and os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def can_enter(folder: Path, uid: int, gid: int) -> bool:
    """Whether an account may pass through a folder and all above it, judged by mode bits."""
    for path in (folder, *folder.parents):
        found = path.stat()
        if found.st_uid == uid:
            needed = stat.S_IXUSR
        elif found.st_gid == gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return False
    return True


def endpoint(folder: Path) -> Endpoint | None:
    """Where the folder's server listens; None without a postmaster.pid that says so."""
    try:
        lines = (folder / "pgdata" / "postmaster.pid").read_text(errors="replace").splitlines()
        status = lines[7].strip() if len(lines) > 7 else ""
        return Endpoint(int(lines[0]), int(lines[3]), lines[4].strip(), status == "ready")
    except (FileNotFoundError, IndexError, ValueError):
        return None


def live_owners(folder: Path, mine: Collection[Path] = ()) -> list[Path]:
    """Return the owners that are alive, and remove the dead ones. Call it with the mutex held.

    *mine* are those of this very process, whose locks must not be touched.
    """
    alive = []
    for path in sorted((folder / "owners").iterdir()):
        if path in mine:
            alive.append(path)
            continue
        lock = FileLock(path)
        try:
            dead = lock.acquire(blocking=False, create=False)
        except FileNotFoundError:
            continue
        if not dead:
            alive.append(path)
            continue
        lock.release()
        path.unlink(missing_ok=True)
    return alive


def log_tail(folder: Path, lines: int = 15) -> str:
    """The last lines of the server's log, indented, for an error message."""
    try:
        text = (folder / "server.log").read_text(errors="replace")
    except FileNotFoundError:
        return "  (there is no server log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (the log is empty)"
