"""The keeper: a small process that runs one embedded server for as long as it has owners.

It starts the server, waits until it can itself take the lock of each owner (``_server_folder.py``
says what they are), shuts the server down and, when the folder is a throw-away one, removes it.

:data:`COMMAND` runs this module without the package's ``__init__``: the keeper starts quickly, and
needs nothing beyond the standard library from the environment that it outlives.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ._server_folder import (
    FileLock,
    belong_to_folder,
    can_enter,
    endpoint,
    live_owners,
    log_tail,
    open_in_folder,
)

_RUN = """
import sys, types
package = sys.modules["keeper"] = types.ModuleType("keeper")
package.__path__ = [sys.argv[1]]
from keeper import _keeper
_keeper.main(_keeper.Plan.from_json(sys.argv[2]))
"""
COMMAND = [sys.executable, "-I", "-S", "-c", _RUN, str(Path(__file__).parent)]

# What sockaddr_un takes on macOS and the BSDs; Linux takes four bytes more.
_LONGEST_SOCKET_PATH = 103
_PORT = 5432


class StartError(Exception):
    """The server did not start; the message goes to whoever started the keeper."""


@dataclass(frozen=True)
class Plan:
    """The keeper's instructions: where, with which programs, as which user and how to run the
    server.
    """

    folder: str
    bin_dir: str
    major: int
    transport: str
    fsync: bool
    throw_away: bool
    timeout: float
    uid: int | None = None
    gid: int | None = None
    copies: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        return cls(**json.loads(text))


class Keeper:
    """Starts the server of one folder, or takes over the one that runs there, and stops it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = Path(plan.folder)
        self.pgdata = self.folder / "pgdata"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        running = endpoint(self.folder)
        if running is not None and running.answers():
            return  # its keeper was killed: this one takes over
        self._copy_binaries()
        if not (self.pgdata / "PG_VERSION").exists():
            self._initdb()
        self._start_server()

    def wait_for_owners(self) -> FileLock:
        """Return when no owner is left, with the mutex held: none comes during the shutdown."""
        while True:
            for path in sorted((self.folder / "owners").iterdir()):
                lock = FileLock(path)
                with contextlib.suppress(FileNotFoundError):
                    lock.acquire(create=False)
                lock.release()
            mutex = FileLock(self.folder / "mutex")
            mutex.acquire()
            if not live_owners(self.folder):
                return mutex
            mutex.release()

    def stop(self) -> None:
        running = endpoint(self.folder)
        if running is not None and (self._process is not None or running.answers()):
            if sys.platform == "win32":
                self._run([self._program("pg_ctl"), "stop", "-D", str(self.pgdata), "-m", "fast"])
            else:
                self._signal(running.pid, signal.SIGINT, wait=60) or self._signal(
                    running.pid, signal.SIGQUIT, wait=10
                )
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if running is not None and running.socket_dir not in ("", str(self.folder / "socket")):
            shutil.rmtree(running.socket_dir, ignore_errors=True)

    def _signal(self, pid: int, number: int, *, wait: float) -> bool:
        deadline = time.monotonic() + wait
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            while time.monotonic() < deadline:
                if self._process is not None:
                    if self._process.poll() is not None:
                        return True
                else:
                    os.kill(pid, 0)
                time.sleep(0.005)
            return False
        return True

    def _copy_binaries(self) -> None:
        shutil.rmtree(self.folder / "binaries", ignore_errors=True)
        for source, target in self.plan.copies:
            shutil.copytree(source, target, symlinks=True)
        # The originals may be closed to everyone but the user that installed them; the copies are
        # the folder's owner's, who could not clear root's away.
        for path, _, names in os.walk(self.folder / "binaries"):
            os.chmod(path, 0o755)  # noqa: S103 -- programs that came from a public package
            belong_to_folder(Path(path))
            for name in names:
                belong_to_folder(Path(path, name))
                if not os.path.islink(file := os.path.join(path, name)):
                    os.chmod(file, 0o755 if os.stat(file).st_mode & stat.S_IXUSR else 0o644)

    def _initdb(self) -> None:
        # Made beside and renamed: if this is interrupted the folder holds no cluster, not half one.
        unfinished = self.folder / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._private_folder(unfinished)
        locale = ["--locale=C"]
        if self.plan.major >= 17:
            # The same characters and order on every platform, without the locales of any.
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        elif sys.platform == "linux":
            locale = ["--locale=C.UTF-8"]
        result = self._run(
            [
                self._program("initdb"),
                f"--pgdata={unfinished}",
                "--username=postgres",
                f"--pwfile={self.folder / 'password'}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                *locale,
                "--no-instructions",
                *(["--no-sync"] if self.plan.throw_away or not self.plan.fsync else []),
            ]
        )
        if result.returncode:
            said = "\n".join(f"  {line}" for line in result.stdout.splitlines()[-15:])
            raise StartError(f"initdb failed with exit code {result.returncode}:\n{said}")
        unfinished.rename(self.pgdata)

    def _start_server(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": "", "port": str(_PORT)}
        if self.plan.transport == "loopback":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                settings |= {"listen_addresses": "127.0.0.1", "port": str(probe.getsockname()[1])}
        else:
            settings |= {
                "unix_socket_directories": self._socket_dir(),
                "unix_socket_permissions": "0700",
            }
        if not self.plan.fsync:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings |= {"logging_collector": "off"} | self.plan.settings
        command = [self._program("postgres"), "-D", str(self.pgdata)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = open_in_folder(self.folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- the program that the plan names
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._options()
            )
        finally:
            os.close(log)
        deadline = time.monotonic() + self.plan.timeout
        while time.monotonic() < deadline:
            code = self._process.poll()
            if code is not None:
                raise StartError(
                    f"the server ended with exit code {code} while starting. The end of its log:\n"
                    + log_tail(self.folder)
                )
            found = endpoint(self.folder)
            if found is not None and found.ready and found.pid == self._process.pid:
                return
            time.sleep(0.01)
        raise StartError(
            f"the server was not ready within {self.plan.timeout:g} seconds. The end of its log:\n"
            + log_tail(self.folder)
        )

    def _socket_dir(self) -> str:
        path = self.folder / "socket"
        if _socket_fits(path):
            if not path.exists():
                self._private_folder(path)
            return str(path)
        for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 -- mkdtemp makes it private
            if not os.path.isdir(parent) or not self._can_enter(Path(parent)):
                continue
            short = Path(tempfile.mkdtemp(prefix="seqreserve-", dir=parent))
            if _socket_fits(short):
                self._give(short)
                return str(short)
            short.rmdir()
        raise StartError(
            "no folder has a path short enough for a Unix socket, and without a comma; tried "
            f"{path}"
        )

    def _private_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.plan.uid is not None and self.plan.gid is not None:
            os.chown(path, self.plan.uid, self.plan.gid)

    def _can_enter(self, path: Path) -> bool:
        if self.plan.uid is None or self.plan.gid is None:
            return True
        return can_enter(path, self.plan.uid, self.plan.gid)

    def _program(self, name: str) -> str:
        return str(Path(self.plan.bin_dir) / (name + (".exe" if os.name == "nt" else "")))

    def _options(self) -> dict[str, Any]:
        # PGPORT, PGDATA, PGOPTIONS and the like are meant for other servers than this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"env": env | {"LC_ALL": "C"}, "cwd": self.folder}
        if self.plan.uid is not None:
            options |= {"user": self.plan.uid, "group": self.plan.gid, "extra_groups": []}
        return options

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 -- a program that the plan names
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            **self._options(),
        )


def _socket_fits(folder: Path) -> bool:
    # To the server a comma divides its folders, and to libpq the hosts.
    path = os.fsencode(folder / f".s.PGSQL.{_PORT}")
    return len(path) <= _LONGEST_SOCKET_PATH and b"," not in path


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _tell_starter(answer: dict[str, Any]) -> None:
    # The starter may have been killed meanwhile; others may wait for the server.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(answer), flush=True)


def main(plan: Plan) -> None:
    keeper = Keeper(plan)
    mutex: FileLock | None = None
    lock = FileLock(keeper.folder / "keeper")
    if not lock.acquire(blocking=False):
        # That of a process which was killed before it could see its keeper take the lock.
        _tell_starter({"elsewhere": True})
        return
    try:
        with _ended_by_signals():
            try:
                keeper.start()
            except (OSError, StartError, subprocess.SubprocessError) as error:
                _tell_starter({"error": str(error)})
                return
            os.close(open_in_folder(keeper.folder / "ready", os.O_WRONLY | os.O_CREAT))
            _tell_starter({"ready": True})
            # The starter reads to the end of the pipe: from here on there is nobody to talk to.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            mutex = keeper.wait_for_owners()
    finally:
        keeper.stop()
        lock.release()
        if mutex is not None:
            mutex.release()
        if plan.throw_away:
            shutil.rmtree(keeper.folder, ignore_errors=True)
