"""What the commands health and repair print for people: every word and value, at any width."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from fixtures.commands import run_command
from fixtures.patience import PATIENCE
from fixtures.run_names import of_this_run
from sqlalchemy import Engine, text

LONG = "a_table_whose_name_is_as_long_as_postgresql_lets_it_be_and_then"


def run_on_a_terminal(*arguments: str) -> str:
    """Return what a command writes to a terminal of 80 columns, without its colours."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sqla_seqreserve", *arguments],
        stdout=theirs,
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # how Linux tells the end of a terminal
            break
        if not some:
            break
        written += some
    os.close(ours)
    process.wait(timeout=PATIENCE)
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")


@pytest.fixture
def mixed(engine: Engine) -> Engine:
    """A healthy table, one that is behind, one whose sequence has ended, and one that is behind
    under a long name.
    """
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE fine (id serial)",
            "INSERT INTO fine SELECT FROM generate_series(1, 3)",
            "CREATE TABLE behind (id serial)",
            "INSERT INTO behind VALUES (123456789)",
            f"CREATE TABLE {LONG} (id bigserial)",
            f"INSERT INTO {LONG} VALUES (9876543210)",
            "CREATE SEQUENCE short MAXVALUE 2",
            "CREATE TABLE ended (id int DEFAULT nextval('short'))",
            "INSERT INTO ended SELECT FROM generate_series(1, 2)",
        ):
            connection.execute(text(statement))
    return engine


def test_in_a_pipe_nothing_is_cut(mixed: Engine, database_url: str) -> None:
    """A healthy sequence takes one line; the others give place, values, cause and remedy, whole."""
    done = run_command("health", database_url)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 sequences of ")
    assert lines[0].endswith(": 2 need repair, 1 is exhausted, 1 is healthy")
    assert "OK  fine.id: next 4, largest id 3" in lines
    at = lines.index(
        "NEEDS_REPAIR  behind.id: next 1, largest id 123456789, 123456789 behind, 5.7% used"
    )
    assert lines[at + 1].startswith("  cause:  behind_id_seq hands out 1 next")
    assert lines[at + 2].startswith("  remedy: ")
    assert any(line.startswith("EXHAUSTED  ended.id by short: largest id 2") for line in lines)
    assert f"{LONG}.id" in done.stdout
    assert "9876543210" in done.stdout


def test_on_a_terminal_no_word_is_cut(mixed: Engine, database_url: str) -> None:
    """At 80 columns lines break between words: put together again they are those of the pipe."""
    shown = run_on_a_terminal("health", database_url)

    assert all(len(line) <= 80 or " " not in line.strip() for line in shown.splitlines())
    piped = run_command("health", database_url).stdout
    times = re.compile(r"checked \S+ \S+ UTC")
    assert times.sub("", " ".join(shown.split())) == times.sub("", " ".join(piped.split()))


@pytest.mark.parametrize("command", ["health", "repair"])
@pytest.mark.parametrize("of", ["schema", "database", "models"])
def test_nothing_to_check_is_no_good_news(
    command: str, of: str, engine: Engine, database_url: str
) -> None:
    """A misspelt schema, an empty database and models without sequences: exit code 2, and why."""
    arguments, reason = {
        "schema": ([database_url, "--schema", "typo"], "has no schema typo"),
        "database": ([database_url], "has no sequence"),
        "models": (
            ["sqla_seqreserve.bench.ways.clock:Nothing", "--url", database_url],
            "cannot be loaded",
        ),
    }[of]

    done = run_command(command, *arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_a_schema_without_sequences_is_named(engine: Engine, database_url: str) -> None:
    """A schema that is there, and holds no sequence, is nothing to check either."""
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA empty"))

    done = run_command("health", database_url, "--schema", "empty")

    assert (done.returncode, "schema empty" in done.stderr) == (2, True)


def test_a_dry_run_begins_with_how_many_and_how_far(mixed: Engine, database_url: str) -> None:
    """The first line sums up; what is exhausted is named as something that no repair can help."""
    done = run_command("repair", database_url, "--dry-run")

    assert done.returncode == 1
    first, *lines = done.stdout.splitlines()
    assert re.match(
        r"2 of 4 sequences of .* would move by \d+ ids in all, 1 cannot be repaired, 1 was healthy",
        first,
    )
    assert (
        "WOULD_REPAIR  behind.id: from 1 to 123456789, by 123456789 ids; largest id 123456789"
        in lines
    )
    assert any(line.startswith("NOT_REPAIRABLE  ended.id by short: ") for line in lines)


def test_equal_refusals_are_one(engine: Engine) -> None:
    """What a role may not repair is said once, with the names of all."""
    reader = of_this_run("reader")
    with engine.begin() as connection:
        for statement in (
            *(f"CREATE TABLE t{number} (id serial)" for number in range(9)),
            *(f"INSERT INTO t{number} VALUES (7)" for number in range(9)),
            f"CREATE ROLE {reader} LOGIN PASSWORD 'reader'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {reader}",
        ):
            connection.execute(text(statement))
    try:
        url = engine.url.set(username=reader, password="reader")
        done = run_command("repair", url.render_as_string(hide_password=False))
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {reader}"))
            connection.execute(text(f"DROP ROLE {reader}"))

    assert done.returncode == 1
    refusals = [line for line in done.stdout.splitlines() if line.startswith("NOT_REPAIRABLE")]
    assert len(refusals) == 1
    print(done.stdout)
    assert "9 sequences" in refusals[0]
    assert all(f"t{number}.id" in done.stdout for number in range(9))


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "psycopg_async"])
def test_any_driver_s_url_is_good(driver: str, mixed: Engine) -> None:
    """The application's own URL works, synchronous or not: check, repair and check again."""
    url = mixed.url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)

    assert run_command("health", url).returncode == 1
    mended = run_command("repair", url)

    assert mended.returncode == 1, mended.stderr
    assert mended.stdout.startswith("2 of 4 sequences of ")
    left = run_command("health", url).stdout
    assert ("NEEDS_REPAIR" in left, "EXHAUSTED" in left) == (False, True)


@pytest.mark.parametrize("how", ["libpq", "SQLA_SEQRESERVE_URL", "DATABASE_URL", "PG"])
def test_the_database_may_be_named_as_elsewhere(how: str, mixed: Engine) -> None:
    """A libpq string, DATABASE_URL without a driver, and libpq's own variables name it too."""
    url = mixed.url.set(drivername="postgresql").render_as_string(hide_password=False)
    parts = mixed.url.translate_connect_args(username="user", database="dbname")
    parts |= dict(mixed.url.query)
    libpq = " ".join(f"{key}='{value}'" for key, value in parts.items())
    environment = {
        "libpq": {},
        "SQLA_SEQRESERVE_URL": {"SQLA_SEQRESERVE_URL": url},
        "DATABASE_URL": {"DATABASE_URL": url.replace("postgresql", "postgres", 1)},
        "PG": {
            f"PG{key.replace('dbname', 'database')}".upper(): str(v) for key, v in parts.items()
        },
    }[how]
    if how != "SQLA_SEQRESERVE_URL":
        environment["SQLA_SEQRESERVE_URL"] = ""

    done = run_command("health", *([libpq] if how == "libpq" else []), **environment)

    assert done.returncode == 1, done.stderr
    assert str(mixed.url.database) in done.stdout.splitlines()[0]


def test_what_a_role_lacks_is_said_once(engine: Engine) -> None:
    """Nine tables that a role may not read are one line, with one GRANT to paste."""
    with engine.begin() as connection:
        for number in range(9):
            connection.execute(text(f"CREATE TABLE t{number} (id serial)"))
        connection.execute(text("CREATE ROLE stranger LOGIN PASSWORD 'stranger'"))
    try:
        url = engine.url.set(username="stranger", password="stranger")
        done = run_command("health", url.render_as_string(hide_password=False))
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP ROLE stranger"))

    assert done.returncode == 2
    assert done.stdout.count("UNREADABLE  ") == done.stdout.count("GRANT SELECT ON ") == 1
    assert all(f"t{number}.id" in done.stdout for number in range(9))


def test_a_repair_without_rights_names_who_has_them(engine: Engine) -> None:
    """A repair that may read nothing names the owner of the sequences, since a GRANT of SELECT
    would not let it move them, and exits with 2, as health does: whether anything is behind is not
    known.
    """
    reader = of_this_run("shut out")
    with engine.begin() as connection:
        for statement in (
            *(f"CREATE TABLE t{number} (id serial)" for number in range(3)),
            f"CREATE ROLE \"{reader}\" LOGIN PASSWORD 'reader'",
        ):
            connection.execute(text(statement))
        owner = connection.scalar(text("SELECT current_user"))
    try:
        url = engine.url.set(username=reader, password="reader")
        done = run_command("repair", url.render_as_string(hide_password=False))
        before = run_command("health", url.render_as_string(hide_password=False))
    finally:
        with engine.begin() as connection:
            connection.execute(text(f'DROP ROLE "{reader}"'))

    assert (done.returncode, before.returncode) == (2, 2)
    [refusal] = [line for line in done.stdout.splitlines() if line.startswith("NOT_REPAIRABLE")]
    assert refusal == (
        "NOT_REPAIRABLE  3 sequences: could not tell: the role may not SELECT the sequence; could "
        f"not tell: the role may not SELECT the column: repair as the role {owner}, which owns the "
        "sequence, or as a member of it, with the right to write to its table"
    )


def test_a_repair_of_a_shared_sequence_names_the_table_that_was_ahead(engine: Engine) -> None:
    """The line has the largest id that the sequence was moved beyond, and the table that holds it,
    not whichever of its tables is last.
    """
    with engine.begin() as connection:
        for statement in (
            "CREATE SEQUENCE shared",
            "CREATE TABLE a (id bigint PRIMARY KEY DEFAULT nextval('shared'))",
            "CREATE TABLE b (id bigint PRIMARY KEY DEFAULT nextval('shared'))",
            "INSERT INTO a VALUES (700)",
        ):
            connection.execute(text(statement))
    done = run_command("repair", engine.url.render_as_string(hide_password=False))
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("REPAIRED")]
    assert line == "REPAIRED  a.id by shared: from 1 to 700, by 700 ids; largest id 700"


def test_a_name_with_colons_is_printed_as_it_is() -> None:
    """An error repeats what was given, also where it looks like rich's code of a picture."""
    done = run_command("health", "a:b:c")
    assert done.stderr.startswith("error: 'a:b:c' cannot be loaded")
