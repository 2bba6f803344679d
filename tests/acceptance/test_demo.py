"""``sqla-seqreserve demo``, run as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fixtures.embedded_owners import data_dir as data_dir
from fixtures.embedded_owners import own_server as own_server
from sqlalchemy import create_engine, make_url, text

from sqla_seqreserve.embedded import EmbeddedServer

PROGRESS = re.compile(r"(?:[a-z ]+: [\d,]+(?: of [\d,]+)? (?:rows|bulk saves), \d+ s\n)*")
"""What a machine that takes its time is told meanwhile, beside the results."""

ON_A_SLOW_MACHINE = """
import sys
from sqla_seqreserve.__main__ import main
from sqla_seqreserve.cli import _progress
_progress._SECONDS = 0.0
sys.exit(main())
"""


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sqla_seqreserve", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=cwd,
        check=False,
    )


def databases(server: EmbeddedServer) -> set[str]:
    engine = create_engine(server.url)
    with engine.connect() as connection:
        names = set(connection.scalars(text("SELECT datname FROM pg_database")))
    engine.dispose()
    return {name for name in names if name.startswith("seqreserve_demo_")}


def test_the_demo_saves_compares_and_leaves_nothing(postgres_server: EmbeddedServer) -> None:
    """The demo saves every planned row, compares with plain SQLAlchemy, finds all healthy, and
    drops its databases.
    """
    before = databases(postgres_server)
    done = run("--clients", "4", "--compare", "2", "--url", postgres_server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PROGRESS.fullmatch(done.stderr), done.stderr
    # 560 prices a client, an activity and a valuation each; a portfolio, a product and five funds.
    assert f"{4 * (2 * 560 + 7):,} rows" in done.stdout
    assert done.stdout.count("times as fast") == 2
    assert "4,508 rows saved" in done.stdout
    assert "500 portfolios are imported" in done.stdout
    assert "NEEDS_REPAIR, 500 ids behind" in done.stdout
    assert "duplicate key value" in done.stdout
    assert re.search(r"the same save again: id 505$", done.stdout, re.MULTILINE)
    assert re.search(r"^8 sequences of .*: 8 are healthy$", done.stdout, re.MULTILINE)
    assert "OK  holding_activity_log.id" in done.stdout
    assert "conflicts" not in done.stdout
    assert databases(postgres_server) <= before


def test_on_a_slow_machine_only_the_progress_is_added(postgres_server: EmbeddedServer) -> None:
    """A demo that takes more than some seconds prints its progress, and nothing else, on stderr."""
    options = ["--clients", "1", "--compare", "1", "--url", postgres_server.url]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SLOW_MACHINE, "demo", *options],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr
    assert PROGRESS.fullmatch(done.stderr), done.stderr
    assert "rows" in done.stderr


def test_the_demo_shows_what_the_portal_asks_for(postgres_server: EmbeddedServer) -> None:
    """--portal adds the return of each share, and the owners' measures."""
    done = run("--clients", "2", "--compare", "0", "--portal", "--url", postgres_server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all shares, pooled" in done.stdout
    assert "sequence conflicts: 0 in " in done.stdout


def test_the_demo_can_keep_its_database(postgres_server: EmbeddedServer) -> None:
    """--keep leaves the database with its rows, and prints its URL without a password."""
    before = databases(postgres_server)
    done = run("--clients", "1", "--compare", "0", "--keep", "--url", postgres_server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"The database is kept: (\S+)", done.stdout.replace("\n", ""))
    assert found is not None
    name = make_url(found[1]).database
    assert databases(postgres_server) - before == {name}
    engine = create_engine(postgres_server.database_url(str(name)))
    with engine.connect() as connection:
        rows = connection.scalar(text("SELECT count(*) FROM portfolio_fund_valuations"))
    engine.dispose()
    postgres_server.drop_database(str(name))
    assert rows == 560


@pytest.mark.usefixtures("own_server")
def test_the_demo_s_own_server_can_be_started_again(data_dir: Path) -> None:
    """Without a server, --keep leaves the database in the current folder, and prints the lines that
    start its server again: a URL would lead to a server that has stopped.
    """
    done = run("--clients", "1", "--compare", "0", "--keep", cwd=data_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    told, _, code = done.stdout.partition("this starts it again:\n")
    assert f"kept in {data_dir / 'sqla-seqreserve-demo'}" in told
    code = textwrap.dedent(code).rstrip()
    program = f"""
from sqlalchemy import create_engine, text
from sqla_seqreserve.embedded import embedded_postgres
{code}
    print(engine.connect().scalar(text("SELECT count(*) FROM client_products")))
"""
    again = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert again.stdout == "1\n", again.stderr


@pytest.mark.parametrize("arguments", [("--clients", "0"), ("--url", "postgresql://127.0.0.1:1/x")])
def test_the_demo_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    """A wrong setting, or a server that does not answer, ends with code 2 and one sentence."""
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
