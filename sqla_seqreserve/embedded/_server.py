"""The server from its user's side: found or started, shared, and left."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from .._database_url import postgresql_url
from ..errors import ConfigurationError, EmbeddedServerError, SeqReserveError
from ._binaries import Account, account_of, find_binaries, unprivileged_account
from ._keeper import COMMAND, Plan
from ._server_folder import (
    FileLock,
    belong_to_folder,
    can_enter,
    endpoint,
    live_owners,
    log_tail,
    open_in_folder,
)

URL_VARIABLE = "SQLA_SEQRESERVE_URL"
"""The environment variable that names a server to use instead of an embedded one."""

_DRIVER = "postgresql+psycopg"

# Record locks belong to the process, not to a thread, and closing a file of ours drops its lock.
_in_this_process = threading.RLock()
_owned: set[Path] = set()


@contextlib.contextmanager
def embedded_postgres(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    fsync: bool = True,
    transport: Literal["socket", "loopback"] | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Iterator[EmbeddedServer]:
    """Run a PostgreSQL server for the ``with`` block; the module's documentation says how it
    behaves.

    :param data_dir: where to keep the databases; made if missing. None: a temporary folder.
    :param fsync: False trades the safety of commits for speed.
    :param transport: "socket" (the default except on Windows) or "loopback".
    :param settings: further server settings, such as ``{"max_connections": "200"}``.
    :param timeout: seconds to wait for the server to start.

    A server that another process already runs in *data_dir* is shared as it is, whatever the
    options.
    """
    if transport is None:
        transport = "loopback" if os.name == "nt" else "socket"
    elif transport not in ("socket", "loopback"):
        raise ConfigurationError(f"transport: expected 'socket' or 'loopback', got {transport!r}")
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield EmbeddedServer(_external_url(given))
        return
    with _Tenancy(data_dir) as tenancy:
        url = tenancy.enter(fsync, transport, dict(settings or {}), timeout)
        yield EmbeddedServer(url, tenancy)


class EmbeddedServer:
    """A running server: its address, and the databases on it. :func:`embedded_postgres` makes
    it.
    """

    def __init__(self, url: URL, tenancy: _Tenancy | None = None) -> None:
        self._url = url
        self._tenancy = tenancy

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self._url}>"  # SQLAlchemy hides the password

    @property
    def url(self) -> str:
        """The URL of the administrative database, with driver, port and, if any, password."""
        return self._url.render_as_string(hide_password=False)

    @property
    def started(self) -> bool:
        """Whether this is a server of ours, not the one that SQLA_SEQRESERVE_URL names."""
        return self._tenancy is not None

    @property
    def data_dir(self) -> Path | None:
        """The folder of the server's files; None for a server that is not ours."""
        return self._tenancy.folder if self._tenancy is not None else None

    def database_url(self, name: str) -> str:
        """The URL of one database on this server, whether it exists or not."""
        return self._url.set(database=name).render_as_string(hide_password=False)

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of the database *template* if given, and return its URL."""
        if template is None:
            self._execute("CREATE DATABASE {}", name)
        else:
            self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the connections to it."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: str, *names: str) -> None:
        engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        quote = engine.dialect.identifier_preparer.quote_identifier
        with engine.connect() as connection:
            connection.exec_driver_sql(statement.format(*map(quote, names)))

    def stop(self) -> None:
        """Leave the server before the block ends; the last one stops it. Safe to call again."""
        if self._tenancy is not None:
            self._tenancy.leave()


class _Tenancy:
    """This process's claim on the server of one folder, from :meth:`enter` to :meth:`leave`."""

    def __init__(self, data_dir: str | os.PathLike[str] | None) -> None:
        self._pid = os.getpid()
        self._throw_away = data_dir is None
        self._account = unprivileged_account()
        self._keeper: subprocess.Popen[str] | None = None
        self.folder = self._throw_away_folder() if data_dir is None else self._open(data_dir)
        self._mutex = FileLock(self.folder / "mutex")
        self._claim = FileLock(self.folder / "owners" / f"{self._pid}-{secrets.token_hex(4)}")
        self._left = False

    def __enter__(self) -> _Tenancy:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def enter(self, fsync: bool, transport: str, settings: dict[str, str], timeout: float) -> URL:
        """Claim the server, start it if it does not run, and return its URL."""
        with _in_this_process, self._mutex:
            owners = self._claim.path.parent
            if not owners.exists():
                owners.mkdir(mode=0o700)
                belong_to_folder(owners)
            _owned.add(self._claim.path)
            self._claim.acquire()
            while not self._is_kept(timeout):
                self._start(fsync, transport, settings, timeout)
            return self._find()

    def _is_kept(self, timeout: float) -> bool:
        """Whether a keeper runs the server; wait if it is still starting, because the process that
        made it was killed before it could see the end of this.
        """
        deadline = time.monotonic() + timeout
        while _is_locked(self.folder / "keeper"):
            if (self.folder / "ready").exists():
                return True
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"The embedded server of {self.folder}, which a process that has ended began to"
                    f" start, was not ready within {timeout:g} seconds. The end of its log:\n"
                    + log_tail(self.folder)
                )
            time.sleep(0.01)
        return False

    def leave(self) -> None:
        """Give up the claim; if it was the last one, return when the server is gone."""
        if self._left or os.getpid() != self._pid:  # a forked child owns nothing
            return
        self._left = True
        _owned.discard(self._claim.path)
        if self._throw_away:
            self._claim.release()
            if self._keeper is not None:
                self._keeper.wait()
            shutil.rmtree(self.folder, ignore_errors=True)  # unless its keeper did
        else:
            with _in_this_process, self._mutex:
                self._claim.release()
                self._claim.path.unlink(missing_ok=True)
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        while True:
            with _in_this_process, self._mutex:  # the keeper holds the mutex during the shutdown
                if not _is_locked(self.folder / "keeper"):
                    break
                if live_owners(self.folder, _owned):
                    if self._keeper is not None:
                        # It stays on for the others; lacking a return code, Popen would warn.
                        self._keeper.returncode = 0
                    return
            time.sleep(0.01)
        if self._keeper is not None:
            self._keeper.wait()

    def _throw_away_folder(self) -> Path:
        parents = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 -- mkdtemp makes it private
        for parent in map(Path, dict.fromkeys(parents)):
            if self._account is None or (parent.is_dir() and _enterable(parent, self._account)):
                folder = Path(tempfile.mkdtemp(prefix="seqreserve-", dir=parent)).resolve()
                self._let_through(folder)
                return folder
        raise EmbeddedServerError(
            f"The server would run as {self._account}, who can enter none of {', '.join(parents)}."
            " Point TMPDIR at a folder that this user can enter."
        )

    def _open(self, data_dir: str | os.PathLike[str]) -> Path:
        folder = Path(data_dir).absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = folder.resolve()
            inside = {path.name for path in folder.iterdir()}
            if inside and "mutex" not in inside:
                raise EmbeddedServerError(
                    f"The data folder {folder} is neither empty nor made by embedded_postgres:"
                    f" it holds {', '.join(sorted(inside)[:5])}. Name another folder."
                )
            if self._account is not None:
                pgdata = folder / "pgdata"
                owner = account_of(folder) or (account_of(pgdata) if pgdata.exists() else None)
                self._account = owner or self._account
                self._let_through(folder)
                if not _enterable(folder, self._account):
                    raise EmbeddedServerError(
                        f"The server would run as {self._account}, who cannot pass"
                        f" through the folders above the data folder {folder}. Name a folder that"
                        " this user can reach, for example below /var/lib or /srv."
                    )
            with _in_this_process, FileLock(folder / "mutex"):
                pass  # marks the folder as ours, or tells that this user must not use it
        except OSError as error:
            raise EmbeddedServerError(
                f"The data folder {folder} cannot be used by this user: {error}."
            ) from error
        return folder

    def _let_through(self, folder: Path) -> None:
        # Root keeps the folder and its locks; the server's account passes through to its parts.
        if self._account is not None and account_of(folder) is None:
            folder.chmod(0o711)

    def _start(self, fsync: bool, transport: str, settings: dict[str, str], timeout: float) -> None:
        (self.folder / "ready").unlink(missing_ok=True)
        version = self.folder / "pgdata" / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        binaries = find_binaries(self._account, major=major)
        password = self.folder / "password"
        if not password.exists():
            flags = os.O_WRONLY | os.O_CREAT
            with open(open_in_folder(password, flags), "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24))
        if self._account is not None:
            os.chown(password, self._account.uid, self._account.gid, follow_symlinks=False)
        target = self.folder / "binaries"
        plan = Plan(
            folder=str(self.folder),
            bin_dir=str(binaries.copied_bin_dir(target)),
            major=binaries.major,
            transport=transport,
            fsync=fsync,
            throw_away=self._throw_away,
            timeout=timeout,
            uid=self._account.uid if self._account else None,
            gid=self._account.gid if self._account else None,
            copies=[(str(source), str(copy)) for source, copy in binaries.copies(target)],
            settings=settings,
        )
        self._keeper = subprocess.Popen(  # noqa: S603 -- this interpreter, this package
            [*COMMAND, plan.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            start_new_session=True,  # Ctrl-C is for this process, which then leaves in its own way
        )
        stdout = self._keeper.stdout
        said = ""
        if stdout is not None:
            with stdout:
                said = stdout.read()
        try:
            answer = json.loads(said)
        except ValueError:
            answer = {"error": f"its keeper ended unexpectedly and said {said.strip()!r}"}
        if "elsewhere" in answer:
            self._keeper.wait()
            self._keeper = None
        elif "ready" not in answer:
            raise EmbeddedServerError(
                f"The embedded server (PostgreSQL {binaries.major}, {binaries.source},"
                f" {binaries.bin_dir}) did not start in {self.folder}: {answer['error']}"
            )

    def _find(self) -> URL:
        found = endpoint(self.folder)
        if found is None or not found.answers():
            raise EmbeddedServerError(
                f"The embedded server of {self.folder} has ended while others were using it. Let"
                " these processes end, then try again. The end of its log:\n"
                + log_tail(self.folder)
            )
        if found.socket_dir:
            where = {"host": found.socket_dir, "port": str(found.port)}
            return URL.create(_DRIVER, "postgres", database="postgres", query=where)
        password = (self.folder / "password").read_text()
        return URL.create(_DRIVER, "postgres", password, "127.0.0.1", found.port, "postgres")


def _is_locked(path: Path) -> bool:
    """Whether another process holds this lock; call it with the mutex held."""
    lock = FileLock(path)
    acquired = lock.acquire(blocking=False)
    lock.release()
    return not acquired


def _enterable(folder: Path, account: Account) -> bool:
    return can_enter(folder, account.uid, account.gid)


def _external_url(given: str) -> URL:
    try:
        url = postgresql_url(given, URL_VARIABLE).set(drivername=_DRIVER)
    except SeqReserveError as error:
        raise EmbeddedServerError(str(error)) from error.__cause__
    if url.port is None and "port" not in url.query:
        url = url.update_query_dict({"port": "5432"}) if "host" in url.query else url.set(port=5432)
    return url
