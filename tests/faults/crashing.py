"""A PostgreSQL server for tests that kill it, or keep its processes from growing files."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from fixtures.patience import PATIENCE
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from sqla_seqreserve.embedded._binaries import find_binaries, unprivileged_account

__all__ = ["CrashingServer"]


class CrashingServer:
    """A server on 127.0.0.1. It runs without fsync, because only its processes are killed and the
    machine goes on.
    """

    def __enter__(self) -> CrashingServer:
        self._account = unprivileged_account()
        found = find_binaries(self._account)
        self._folder = Path(tempfile.mkdtemp(prefix="seqreserve-faults-", dir="/tmp"))
        if self._account is not None:
            self._folder.chmod(0o711)
        for source, copy in found.copies(self._folder / "binaries"):
            shutil.copytree(source, copy, symlinks=True)
        self._programs = found.copied_bin_dir(self._folder / "binaries")
        self._data = self._folder / "pgdata"
        self._data.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(self._data, self._account.uid, self._account.gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        # Segments of 1 MB: a limit for the size of a table's file must not stop the server's log.
        arguments = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        arguments += ["--wal-segsize=1", "--no-instructions", "--no-sync"]
        subprocess.run(
            [self._programs / "initdb", f"--pgdata={self._data}", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **self._as_account(),
        )
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server; return when it accepts connections, which is after the recovery if it
        was killed.
        """
        with (self._folder / "log").open("a") as log:
            self._postmaster = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self._data, "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *("-c", "fsync=off", "-c", "max_wal_size=64MB"),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as_account(),
            )
        engine = create_engine(self.url, poolclass=NullPool)
        last = time.monotonic() + PATIENCE
        while True:
            try:
                with engine.connect() as connection:
                    connection.execute(text("SELECT"))
                return
            except OperationalError:
                ended = self._postmaster.poll()
                if ended is not None or time.monotonic() > last:
                    log_text = (self._folder / "log").read_text()[-2000:]
                    raise AssertionError(f"the server did not start:\n{log_text}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """Send SIGKILL to every process of the server, as when a machine runs out of memory."""
        postmaster = self._postmaster.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._postmaster.wait()
        for pid in children:
            while _is_there(int(pid)):
                time.sleep(0.005)

    def limit_files(self, backend: int, size: int | None) -> None:
        """Keep a process of the server from writing files beyond a size, as a full disk does."""
        limit = "unlimited" if size is None else str(size)
        subprocess.run(
            ["prlimit", f"--pid={backend}", f"--fsize={limit}:"],
            check=True,
            cwd="/",
            **self._as_account(),
        )

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}


def _is_there(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
