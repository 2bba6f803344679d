"""The commands health, repair and watch, run as processes on a real database."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from fixtures.commands import run_command
from fixtures.patience import PATIENCE, wait_until
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


@pytest.fixture
def things(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id serial PRIMARY KEY)"))
        connection.execute(text("CREATE SCHEMA other"))
        connection.execute(text("CREATE TABLE other.t (id serial)"))
    return engine


def import_up_to(engine: Engine, top: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO thing VALUES (:top)"), {"top": top})


def in_a_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sqla_seqreserve", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def test_repair_leaves_ids_far_ahead_unless_asked(things: Engine, database_url: str) -> None:
    """Each output names ids near the end of their type, and --allow-exhaustion moves the sequence
    beyond them.
    """
    import_up_to(things, 2147483640)
    kept = run_command("repair", database_url)
    assert kept.returncode == 1
    assert "id 2147483640 of thing.id stands far ahead of the others" in kept.stdout
    (found,) = [
        r["outlying"]
        for r in json.loads(run_command("repair", database_url, "--dry-run", "--json").stdout)[
            "results"
        ]
        if r["sequence"] == "thing_id_seq"
    ]
    assert (found["first"], found["left"]) == (2147483640, 7)
    assert run_command("repair", database_url, "--allow-exhaustion").returncode == 0


def test_health_and_repair_on_a_url(things: Engine, database_url: str) -> None:
    """health detects a gap, repair --dry-run reports it, repair fixes it, and the exit
    codes agree.
    """
    assert run_command("health", database_url).returncode == 0
    import_up_to(things, 40)
    shown = run_command("health", database_url)
    assert shown.returncode == 1
    assert "NEEDS_REPAIR" in shown.stdout
    assert "thing_id_seq" in shown.stdout
    assert shown.stderr == ""

    told = run_command("repair", database_url, "--dry-run", "--json")
    assert told.returncode == 1
    results = {r["sequence"]: r for r in json.loads(told.stdout)["results"]}
    assert results["thing_id_seq"]["action"] == "WOULD_REPAIR"
    assert results["other.t_id_seq"]["action"] == "HEALTHY"

    mended = run_command("repair", database_url, "--json")
    assert mended.returncode == 0
    assert json.loads(mended.stdout)["sequences_repaired"] == 1
    checked = run_command("health", database_url, "--json")
    assert checked.returncode == 0
    assert json.loads(checked.stdout)["overall_health"] == "HEALTHY"


def test_health_of_an_application_s_models(
    things: Engine, database_url: str, tmp_path: Path
) -> None:
    """module:Base is found in the current folder, and its database in the environment."""
    (tmp_path / "shop_models.py").write_text(MODELS)
    import_up_to(things, 40)
    environment = os.environ | {
        "SQLA_SEQRESERVE_URL": database_url,
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), os.getcwd()])),
    }
    found = in_a_process("health", "shop_models:Base", "--json", cwd=tmp_path, env=environment)
    assert found.returncode == 1, found.stderr
    (entry,) = json.loads(found.stdout)["sequences"]
    assert (entry["table"], entry["gap"], entry["severity"]) == ("thing", 40, "MEDIUM")


def test_schema_and_fail_on_narrow_the_verdict(things: Engine, database_url: str) -> None:
    """--schema excludes other schemas; --fail-on sets the severity that counts."""
    import_up_to(things, 40)
    assert run_command("health", database_url, "--schema", "other").returncode == 0
    assert run_command("health", database_url, "--fail-on", "never").returncode == 0
    with things.begin() as connection:
        connection.execute(text("ALTER SEQUENCE other.t_id_seq CYCLE"))
    assert run_command("health", database_url, "--schema", "other").returncode == 0
    warned = run_command("health", database_url, "--schema", "other", "--fail-on", "warning")
    assert warned.returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["health", "postgresql://nobody:s3cret@127.0.0.1:1/nowhere"],
        ["repair", "postgresql://nobody:s3cret@127.0.0.1:1/nowhere"],
        ["health", "no_such_module:Base", "--url", "postgresql://x"],
        ["health", "not a url s3cret://"],
        ["watch", "postgresql://x", "--every", "soon"],
        ["health", "mysql://root:s3cret@127.0.0.1/nowhere"],
        ["health", "postgresql://u:s3cret@[::1"],
        ["health", "postgresql://u:s3cret@127.0.0.1:port/x"],
        ["health", "postgresql+nothing://u:s3cret@127.0.0.1/x"],
        ["health", "host=127.0.0.1 port=1 password=s3cret"],
        ["health", "password='s3cret"],
        ["repair", "postgresql+asyncpg://nobody:s3cret@127.0.0.1:1/nowhere"],
        ["health", "os:getcwd", "--url", "postgresql://nobody:s3cret@127.0.0.1:1/nowhere"],
    ],
)
def test_what_cannot_be_told_exits_with_two(arguments: list[str]) -> None:
    """If health cannot tell, it prints one line on stderr, without a traceback or a password, and
    exits with 2.
    """
    done = run_command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


class Hook(BaseHTTPRequestHandler):
    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.received.append(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    received: list[dict[str, Any]] = []
    handler = type("BoundHook", (Hook,), {"received": received})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_watch_tells_each_change_once_and_ends_on_sigterm(
    things: Engine,
    postgres_url: str,
    database_url: str,
    tmp_path: Path,
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    """watch logs and alerts drift, a repair, and the database's loss and return once each; SIGTERM
    ends it with 0.
    """
    url, received = webhook
    alerts = tmp_path / "alerts"
    log = tmp_path / "log"
    alert_command = (
        f"{sys.executable} -c \"import sys; print(sys.stdin.read(), file=open('{alerts}', 'a'))\""
    )
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sqla_seqreserve", "watch", database_url),
                *("--every", "0.2s", "--alert-gap", "10"),
                *("--alert-webhook", url, "--alert-command", alert_command),
            ],
            stderr=stream,
        )
    try:
        wait_until(lambda: "watching" in log.read_text(), "the start")
        import_up_to(things, 9)
        wait_until(lambda: "9 ids behind" in log.read_text(), "a gap too small for an alert")
        import_up_to(things, 40)
        wait_until(lambda: len(received) == 1, "the alert")
        assert run_command("repair", database_url).returncode == 0
        wait_until(lambda: len(received) == 2, "the end of the alert")

        name = things.url.database
        things.dispose()
        rename_database(postgres_url, str(name), f"{name}_away")
        wait_until(lambda: len(received) == 3, "the alert that the database is away")
        rename_database(postgres_url, f"{name}_away", str(name))
        wait_until(lambda: len(received) == 4, "the end of that alert")
        time.sleep(0.6)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    assert [(r["subject"], r["now"], r["alert"]) for r in received] == [
        ("thing_id_seq", "NEEDS_REPAIR", "firing"),
        ("thing_id_seq", "OK", "resolved"),
        ("database", "away", "firing"),
        ("database", "back", "resolved"),
    ]
    assert len([json.loads(line) for line in alerts.read_text().splitlines() if line]) == 4
    written = log.read_text()
    assert len([line for line in written.splitlines() if "thing_id_seq: " in line]) == 3
    assert written.rstrip().endswith("stopped")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_watch_serves_metrics(
    things: Engine, database_url: str, tmp_path: Path, driver: str
) -> None:
    """--metrics-port exposes each check on 127.0.0.1; a port that is taken is a clear error."""
    port, log = free_port(), tmp_path / "log"
    url = make_url(database_url).set(drivername=f"postgresql+{driver}")
    target = url.render_as_string(hide_password=False)
    arguments = ("watch", target, "--every", "0.2s", "--metrics-port", str(port))
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "sqla_seqreserve", *arguments], stderr=stream
        )

    def exposed(line: str) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
                return line in answer.read().decode().splitlines()
        except OSError:
            return False

    labels = (
        f'{{column="id",database="{things.url.database}",schema="public",'
        'sequence="thing_id_seq",table="thing"}'
    )
    try:
        wait_until(lambda: exposed(f"seqreserve_sequence_healthy{labels} 1.0"), "a healthy check")
        import_up_to(things, 40)
        wait_until(lambda: exposed(f"seqreserve_sequence_gap{labels} 40.0"), "the gap")
        assert exposed(f"seqreserve_sequence_healthy{labels} 0.0")
        second = in_a_process(*arguments)
        assert second.returncode == 2
        assert second.stderr.startswith(f"error: --metrics-port {port}: ")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


def rename_database(postgres_url: str, name: str, new_name: str) -> None:
    """Take a database away from its users, or give it back."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:

        def renamed() -> bool:
            try:
                connection.execute(text(f"ALTER DATABASE {name} RENAME TO {new_name}"))
            except OperationalError:
                # A check is connected at the moment.
                return False
            return True

        wait_until(renamed, "nobody is connected")
    admin.dispose()


def test_a_sequence_near_its_end_fails_health(engine: Engine, database_url: str) -> None:
    """A few hundred ids left are exit code 1 by default, with what is left and what helps; the
    limits can be set.
    """
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id smallserial PRIMARY KEY)"))
        connection.execute(text("SELECT setval('thing_id_seq', 32367)"))
    shown = run_command("health", database_url)
    assert shown.returncode == 1
    assert "98.8% used, 400 ids left" in shown.stdout
    assert "has used 98.8% of its ids, 400 are left (HIGH)" in shown.stdout
    assert run_command("health", database_url, "--fail-on", "never").returncode == 0
    assert run_command("health", database_url, "--alert-used", "99").returncode == 0
    assert run_command("health", database_url, "--alert-used", "0").returncode == 2


def test_health_forecasts_from_its_state_file(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """--state keeps earlier checks from one run to the next, and --alert-days uses them."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id smallserial PRIMARY KEY)"))
    state = ("--state", str(tmp_path / "state"))
    assert run_command("health", database_url, *state).returncode == 0
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO thing SELECT FROM generate_series(1, 5000)"))
    assert run_command("health", database_url).returncode == 0
    found = run_command("health", database_url, "--json", *state)
    assert found.returncode == 1
    (entry,) = json.loads(found.stdout)["sequences"]
    # 5,000 in less than an hour count as an hour's.
    assert entry["ids_a_day"] == pytest.approx(120_000)
    assert entry["ids_left"] == 27_767
    assert entry["ends_at"] is not None
    quiet = run_command("health", database_url, "--alert-days", "0.1", *state)
    assert (quiet.returncode, "27767 ids left, the last on 2" in quiet.stdout) == (0, True)
    unusable = run_command("health", database_url, "--state", str(tmp_path))
    assert unusable.returncode == 2


def test_watch_alerts_near_the_end(
    engine: Engine, database_url: str, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    """watch alerts a sequence near its end at the first check, and one that is one id behind."""
    url, received = webhook
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE near (id smallserial PRIMARY KEY)"))
        connection.execute(text("SELECT setval('near_id_seq', 32367)"))
        connection.execute(text("CREATE TABLE behind (id serial PRIMARY KEY)"))
        connection.execute(text("INSERT INTO behind VALUES (1)"))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sqla_seqreserve", "watch", database_url),
            *("--every", "0.2s", "--alert-webhook", url),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(received) == 2, "both alerts")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    assert {(r["subject"], r["now"], r["alert"]) for r in received} == {
        ("near_id_seq", "WARNING", "firing"),
        ("behind_id_seq", "NEEDS_REPAIR", "firing"),
    }
