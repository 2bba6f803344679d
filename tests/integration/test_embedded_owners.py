"""The embedded server and its owners: processes share it, and it stops with the last of them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.embedded_owners import CHECKOUT, IS_ROOT, OWNER, StartOwner, processes_of, scalar
from fixtures.embedded_owners import data_dir as data_dir
from fixtures.embedded_owners import own_server as own_server
from fixtures.embedded_owners import start_owner as start_owner
from fixtures.patience import wait_until

from sqla_seqreserve.embedded import embedded_postgres

pytestmark = pytest.mark.usefixtures("own_server")


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
    """After the block no process and no file of a throw-away server is left."""
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
    """If the owner of a throw-away server is killed, the server stops and its folder is removed."""
    process, told = start_owner(user=user)
    assert processes_of(told["dir"])
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not processes_of(told["dir"]), "the end of its processes")
    wait_until(lambda: not Path(told["dir"]).exists(), "the end of its folder")


def test_an_orphaned_worker_does_not_keep_the_server(start_owner: StartOwner) -> None:
    """If the owner is killed, the server stops although a child that the owner forked still
    runs.
    """
    process, told = start_owner(None, "fork")
    process.kill()
    process.wait()
    os.kill(told["worker"], 0)
    wait_until(lambda: not processes_of(told["dir"]), "the end of its processes")
    wait_until(lambda: not Path(told["dir"]).exists(), "the end of its folder")


def test_a_forked_child_does_not_stop_the_server() -> None:
    """If a forked child calls stop(), the server of its parent still runs."""
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
    """Processes that name the same folder share one server, and the last of them stops it."""
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
    """If the process that started a shared server is killed, the server runs until the last owner
    ends.
    """
    first, told = start_owner(data_dir)
    second, _ = start_owner(data_dir)
    first.kill()
    first.wait()
    assert scalar(told["url"], "SELECT 1") == 1
    second.kill()
    second.wait()
    wait_until(lambda: not processes_of(data_dir / "pgdata"), "the end of its processes")


@pytest.mark.parametrize("made", ["mutex", "keeper", "pgdata.new", "pgdata/postmaster.pid"])
def test_an_owner_killed_while_it_starts_leaves_a_server_that_others_can_use(
    data_dir: Path, made: str
) -> None:
    """If the process that starts the server is killed at any moment before it is ready, the next
    one waits for that server, or starts it, and the last one to leave stops it.
    """
    starter = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )
    while not (data_dir / made).exists() and starter.poll() is None:
        pass
    starter.kill()
    starter.communicate()
    with embedded_postgres(data_dir, fsync=False) as server:
        assert scalar(server.url, "SELECT 1") == 1
    wait_until(lambda: not processes_of(data_dir), "the end of its processes")


def test_one_process_may_use_a_folder_twice(data_dir: Path) -> None:
    """Two blocks of one process on one folder share the server; it stops at the end of the outer
    one.
    """
    with embedded_postgres(data_dir, fsync=False) as server:
        with embedded_postgres(data_dir) as again:
            assert again.url == server.url
        assert scalar(server.url, "SELECT 1") == 1
    assert not processes_of(data_dir)


def test_a_persistent_folder_keeps_its_data(data_dir: Path) -> None:
    """Rows that were committed in one block are in the database in the next block on the same
    folder.
    """
    with embedded_postgres(data_dir) as server:
        assert scalar(server.url, "SHOW fsync") == "on"
        scalar(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not processes_of(data_dir)
    with embedded_postgres(data_dir) as server:
        assert scalar(server.url, "SELECT answer FROM kept") == 42


def test_the_next_owner_survives_a_killed_keeper(start_owner: StartOwner, data_dir: Path) -> None:
    """If a server's keeper was killed, the next owner uses the running server, and it stops with
    the last owner.
    """
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
