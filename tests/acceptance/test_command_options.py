"""Options and targets that commands refuse, and how a watch ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from fixtures.commands import run_command
from fixtures.embedded_owners import CHECKOUT
from fixtures.patience import PATIENCE, wait_until
from sqlalchemy import Engine, text


def test_two_formats_at_once_are_refused(database_url: str) -> None:
    """--json and another --format exclude each other; a Nagios that got JSON would see nothing."""
    done = run_command("health", database_url, "--json", "--format", "nagios")
    assert done.returncode == 2
    assert "does not go with --format nagios" in done.stderr
    assert done.stdout == ""


def test_an_application_that_exits_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """A module of the application that calls sys.exit() when it is imported gives 2: could not
    tell. Its own exit code, often 1, would mean "not healthy".
    """
    (tmp_path / "exiting_application.py").write_text("import sys\nsys.exit('no settings')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = run_command("health", "exiting_application:Base", "--url", database_url)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'exiting_application:Base' cannot be loaded: SystemExit")


def test_a_time_that_nobody_lives_to_see_is_refused(database_url: str) -> None:
    """A pause between checks that is longer than a process can wait is refused before the first."""
    done = run_command("watch", database_url, "--every", "99999999999999h")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --every: 99999999999999h is longer than")


def test_a_database_without_sequences_beside_others(engine: Engine, database_url: str) -> None:
    """With --all-databases a database that has no sequence is a whole line, and no error."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial)"))
    done = run_command("health", database_url, "--all-databases", "--fail-on", "never")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line for line in lines if line.startswith("0 sequences of ")]
    assert not [line for line in lines if line.endswith((":", " "))]


def test_what_is_told_of_a_move_counts_the_headroom(engine: Engine, database_url: str) -> None:
    """What is printed of a move agrees with its values: the headroom is part of it."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial)"))
        connection.execute(text("INSERT INTO t VALUES (20)"))
    told = json.loads(
        run_command("repair", database_url, "--headroom", "80", "--dry-run", "--json").stdout
    )
    assert (told["ids_moved"], told["results"][0]["gap_fixed"]) == (100, 20)
    done = run_command("repair", database_url, "--headroom", "80")
    assert done.stdout.splitlines()[1:] == [
        "REPAIRED  t.id: from 1 to 100, by 100 ids; largest id 20"
    ]


MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class One(DeclarativeBase):
    pass

class Other(DeclarativeBase):
    pass

class A(One):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)

class B(Other):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def test_metrics_of_several_models_in_one_database(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """A watch of two applications' models in one database exposes the sequences of both."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE a (id serial); CREATE TABLE b (id serial)"))
    (tmp_path / "two_applications.py").write_text(MODELS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sqla_seqreserve", "watch"),
            *("two_applications:One", "two_applications:Other"),
            *("--url", database_url, "--metrics-port", str(port)),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.DEVNULL,
    )

    def exposed() -> set[str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
                return set(re.findall(r'healthy\{.*sequence="(\w+)"', answer.read().decode()))
        except OSError:
            return set()

    try:
        wait_until(lambda: exposed() == {"a_id_seq", "b_id_seq"}, "both")
    finally:
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_signal_ends_a_check_that_hangs(tmp_path: Path) -> None:
    """The first SIGTERM lets a check end; the second does not wait for a server that accepts
    connections and does not answer.
    """
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as silent, log.open("w") as stream:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x"
        process = subprocess.Popen(
            [sys.executable, "-m", "sqla_seqreserve", "watch", url], stderr=stream
        )
        try:
            accepted, _ = silent.accept()
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in log.read_text(), "the first signal")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == -signal.SIGTERM
            accepted.close()
        finally:
            process.kill()
            process.wait()
