"""The formats of health and watch for other programs: Nagios, Prometheus, Slack, Alertmanager,
JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.commands import run_command
from fixtures.patience import PATIENCE, wait_until
from sqlalchemy import Engine, create_engine, make_url, text

KEYS = {
    "version", "alert", "subject", "before", "now", "severity", "message", "at", "since",
    "database", "host", "port", "schema", "tables", "column", "sequence", "gap", "ids_left",
    "ends_at", "findings",
}  # fmt: skip


@pytest.fixture
def mixed(engine: Engine) -> Engine:
    """A healthy sequence, one near its end, and one that is behind under two tables."""
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE fine (id serial)",
            "CREATE TABLE near (id smallserial)",
            "SELECT setval('near_id_seq', 32367)",
            "CREATE SEQUENCE shared",
            *(f"CREATE TABLE {t} (id int DEFAULT nextval('shared'))" for t in ("a", "b")),
            "INSERT INTO b VALUES (150)",
        ):
            connection.execute(text(statement))
    return engine


def test_problems_alone_worst_first(mixed: Engine, database_url: str) -> None:
    """--only-problems omits healthy sequences, in text and JSON, but the totals include them."""
    lines = run_command("health", database_url, "--only-problems").stdout.splitlines()
    assert lines[0].endswith(": 1 needs repair, 1 has a warning, 1 is healthy")
    verdicts = [line.partition("  ")[0] for line in lines[1:] if not line.startswith(" ")]
    assert verdicts == ["NEEDS_REPAIR", "NEEDS_REPAIR", "WARNING"]
    found = json.loads(run_command("health", database_url, "--only-problems", "--json").stdout)
    assert [entry["sequence"] for entry in found["sequences"]] == [
        "shared",
        "shared",
        "near_id_seq",
    ]
    assert (found["version"], found["total_sequences"], found["healthy_sequences"]) == (1, 3, 2)
    assert [place["name"] for place in found["databases"]] == [mixed.url.database]


@pytest.mark.parametrize(
    ("sequences", "code", "state"),
    [
        ("SELECT setval('near_id_seq', 1), setval('shared', 150)", 0, "OK"),
        ("ALTER SEQUENCE near_id_seq CYCLE; SELECT setval('shared', 150)", 1, "WARNING"),
        ("SELECT setval('shared', 150)", 2, "CRITICAL"),
        ("SELECT setval('near_id_seq', 1)", 2, "CRITICAL"),
    ],
)
def test_nagios(mixed: Engine, database_url: str, sequences: str, code: int, state: str) -> None:
    """--format nagios prints one line with performance data after a bar, and exits with a plugin's
    codes.
    """
    with mixed.begin() as connection:
        for statement in sequences.split("; "):
            connection.execute(text(statement))
    done = run_command("health", database_url, "--format", "nagios")
    assert (done.returncode, done.stderr) == (code, "")
    line, _, data = done.stdout.rstrip("\n").partition(" | ")
    assert line.startswith(f"SEQUENCES {state} - 3 checked: ")
    assert "\n" not in done.stdout.rstrip("\n")
    labels = re.findall(r"'([^']+)'=[\d.]+%?;;[\d.]*;0(?:;100)?(?: |$)", data)
    prefix = f"{mixed.url.database}."
    assert set(labels) == {
        f"{prefix}{name} {kind}"
        for name in ("shared", "fine_id_seq", "near_id_seq")
        for kind in ("used", "gap")
    }


def test_nagios_gets_what_could_not_be_told_as_unknown() -> None:
    """With --format nagios an unknown state is printed on standard output, with exit code 3 and no
    password.
    """
    done = run_command("health", "postgresql://u:s3cret@127.0.0.1:1/x", "--format", "nagios")
    assert done.returncode == 3
    assert done.stdout.startswith("SEQUENCES UNKNOWN - ")
    assert "s3cret" not in done.stdout + done.stderr


def test_a_textfile_for_prometheus(mixed: Engine, database_url: str) -> None:
    """--format prometheus-textfile prints the gauges, each with its database and schema."""
    done = run_command("health", database_url, "--format", "prometheus-textfile")
    assert done.returncode == 1
    line = (
        f'seqreserve_sequence_ids_left{{column="id",database="{mixed.url.database}",'
        'schema="public",sequence="near_id_seq",table="near"} 400.0'
    )
    assert line in done.stdout.splitlines()


def test_all_databases_of_a_server(mixed: Engine, database_url: str) -> None:
    """--all-databases checks each database that the role may connect to, and fails if one is
    unhealthy.
    """
    other = f"{mixed.url.database}_other"
    admin = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{other}"'))
    try:
        url = make_url(database_url).set(database=other).render_as_string(hide_password=False)
        done = run_command("health", url, "--all-databases", "--json")
        assert done.returncode == 1, done.stderr
        found = json.loads(done.stdout)
        names = {place["name"] for place in found["databases"]}
        assert names >= {other, mixed.url.database, "postgres"}
        # Another run's databases may be on the server, too.
        ours = [each for each in found["sequences"] if each["database"] == mixed.url.database]
        first = ours[0]
        assert (first["database"], first["sequence"]) == (mixed.url.database, "shared")
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{other}" WITH (FORCE)'))
        admin.dispose()


@pytest.fixture
def refusing(mixed: Engine, database_url: str) -> Iterator[tuple[str, str]]:
    """A URL of the mixed database for a role that another database, whose name is returned, too,
    refuses.
    """
    url = make_url(database_url)
    role = other = f"{url.database}_refusing"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE ROLE "{role}" LOGIN IN ROLE pg_read_all_data'))
        connection.execute(text(f'CREATE DATABASE "{other}" CONNECTION LIMIT 0'))
        yield url.set(username=role).render_as_string(hide_password=False), other
        connection.execute(text(f'DROP DATABASE "{other}" WITH (FORCE)'))
        connection.execute(text(f'DROP ROLE "{role}"'))
    admin.dispose()


def test_a_database_that_refuses(refusing: tuple[str, str]) -> None:
    """If one of --all-databases cannot be checked, the others are, and standard error says why."""
    url, other = refusing
    database = make_url(url).database
    done = run_command("health", url, "--all-databases", "--json")
    assert done.returncode == 1
    assert f"could not check {other}" in done.stderr
    assert "too many connections" in done.stderr
    found = json.loads(done.stdout)
    assert database in {place["name"] for place in found["databases"]}
    assert "shared" in {entry["sequence"] for entry in found["sequences"]}
    [reason] = [each["reason"] for each in found["not_checked"] if each["database"] == other]
    assert "too many connections" in reason
    done = run_command("health", url, "--all-databases", "--format", "nagios")
    assert done.returncode == 2
    assert f"could not check {other}" in done.stdout.partition("|")[0]


def test_healthy_databases_beside_one_that_refuses(
    refusing: tuple[str, str], engine: Engine
) -> None:
    """If the others are healthy, the exit code says that the state of one is unknown; not all of
    them need have the schema.
    """
    url, other = refusing
    # No other test's database on the server has this schema.
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{other}"'))
        connection.execute(text(f'CREATE TABLE "{other}".fine (id serial)'))
    options = ("--all-databases", "--schema", other)
    assert run_command("health", url, *options).returncode == 2
    assert run_command("health", url, *options, "--fail-on", "never").returncode == 0
    done = run_command("health", url, *options, "--format", "nagios")
    assert done.returncode == 3
    assert done.stdout.startswith("SEQUENCES UNKNOWN")
    alone = make_url(url).set(database=other).render_as_string(hide_password=False)
    done = run_command("health", alone)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_schema_that_no_database_has(database_url: str) -> None:
    """A misspelt --schema is refused, whichever other schemas the databases have."""
    done = run_command(
        "health", database_url, "--all-databases", "--schema", "public", "--schema", "typo"
    )
    assert done.returncode == 2
    assert "no database has a schema typo" in done.stderr


def watched(tmp_path: Path, *arguments: str, until: int) -> list[Any]:
    """Return the alerts of a watch, as its command gets them, once there are this many."""
    file = tmp_path / "alerts"
    file.touch()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sqla_seqreserve", "watch", "--every", "0.2s"),
            *("--alert-command", f"(cat; echo) >> '{file}'"),
            *arguments,
        ],
        stderr=subprocess.DEVNULL,
    )

    def lines() -> list[str]:
        return [line for line in file.read_text().splitlines() if line]

    try:
        wait_until(lambda: len(lines()) >= until, lambda: f"{until} alerts: {lines()}")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    return [json.loads(line) for line in lines()]


def test_an_alert_says_all_that_is_known(mixed: Engine, database_url: str, tmp_path: Path) -> None:
    """An alert contains database, tables, severity, since when and what to do; a shared sequence
    has one alert.
    """
    found = watched(tmp_path, database_url, until=2)
    alerts = {alert["subject"]: alert for alert in found}
    assert [len(found), set(alerts)] == [2, {"shared", "near_id_seq"}]
    assert all(alert.keys() == KEYS for alert in found)
    shared = alerts["shared"]
    assert (shared["database"], shared["schema"]) == (mixed.url.database, "public")
    assert sorted(shared["tables"]) == ["a", "b"]
    assert (shared["gap"], shared["severity"], shared["version"]) == (150, "HIGH", 1)
    assert shared["since"] <= shared["at"]
    assert "repair" in shared["findings"][0]["remedy"]
    near = alerts["near_id_seq"]
    assert near["findings"][0]["sql"].startswith("ALTER TABLE near ALTER id TYPE bigint")


def test_slack_gets_a_text(mixed: Engine, database_url: str, tmp_path: Path) -> None:
    """Slack's format is one key, text, with the problem and what to do."""
    found = watched(tmp_path, database_url, "--alert-format", "slack", until=2)
    assert [set(alert) for alert in found] == [{"text"}] * 2
    said = "\n".join(alert["text"] for alert in found)
    assert f"shared (a, b) of {mixed.url.database} on " in said
    assert "What to do: " in said


def test_alertmanager_gets_its_alerts_again(
    mixed: Engine, database_url: str, tmp_path: Path
) -> None:
    """Alertmanager's format is a list of alerts with labels and annotations, sent at each check
    while they last.
    """
    found = watched(tmp_path, database_url, "--alert-format", "alertmanager", until=6)
    for (alert,) in found:
        assert set(alert) == {"labels", "annotations", "startsAt"}
        assert all(isinstance(value, str) for value in alert["labels"].values())
        assert alert["labels"]["database"] == mixed.url.database
        assert alert["annotations"]["remedy"]
    begins = {(alert["labels"]["sequence"], alert["startsAt"]) for (alert,) in found}
    assert len(begins) == 2


def test_one_watch_of_several_databases(mixed: Engine, database_url: str, tmp_path: Path) -> None:
    """With several databases each alert names its own, and one that does not answer
    hides no other.
    """
    away = "postgresql://nobody@127.0.0.1:1/away"
    found = watched(tmp_path, away, database_url, until=3)
    assert {(alert["database"], alert["subject"]) for alert in found} == {
        ("away", "database"),
        (mixed.url.database, "shared"),
        (mixed.url.database, "near_id_seq"),
    }
    assert os.linesep not in found[0]["message"]
