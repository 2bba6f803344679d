"""The command that loads activities from CSV, through its command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from sqla_seqreserve.cli import load  # noqa: F401  registers the command
from sqla_seqreserve.cli._app import app
from sqla_seqreserve.portfolio.models import HoldingActivityLog

HEADER = "product_id,portfolio_fund_id,activity_type,activity_timestamp,amount\n"


def invoke(url: str, *arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app, ["load", *map(str, arguments)], env={"SQLA_SEQRESERVE_URL": url, "COLUMNS": "200"}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def committed(portfolio_engine: Engine) -> Holding:
    """A portfolio with one fund that has a valuation, committed."""
    with Session(portfolio_engine) as session:
        holding = make_holding(session, 1)
        holding.valued(0, ("2024-01-31", 10100))
        session.commit()
        return make_readable(holding)


def make_readable(holding: Holding) -> Holding:
    for row in (holding.product, *holding.funds):
        holding.session.refresh(row)
    return holding


def write(path: Path, holding: Holding, *rows: str) -> Path:
    start = f"{holding.product.id},{holding.funds[0].id},"
    path.write_text(HEADER + "".join(f"{start}{row}\n" for row in rows))
    return path


def count(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(HoldingActivityLog)) or 0


def test_load_and_load_again(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path
) -> None:
    """The command loads a file and commits it with its rates; run again, it loads nothing twice."""
    file = write(
        tmp_path / "activities.csv",
        committed,
        "Investment,2024-01-15,9000",
        "Investment,2024-01-16,1000",
    )
    code, out, _ = invoke(portfolio_url, file, "--chunk-rows", 1)
    assert code == 0
    assert "2 lines: 2 loaded, 0 there before, 0 rejected" in out
    assert "Rates of return: 1 of funds, 1 of portfolios, 0 could not be given" in out
    code, out, _ = invoke(portfolio_url, file)
    assert code == 0
    assert "2 lines: 0 loaded, 2 there before, 0 rejected" in out
    assert count(portfolio_engine) == 2


def test_bad_lines(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path
) -> None:
    """The command lists bad lines with their numbers and loads nothing; with --skip-bad it loads
    the others and writes the rejects.
    """
    file = write(
        tmp_path / "activities.csv",
        committed,
        "Investment,2024-01-15,[red]",
        "Investment,2024-01-16,1000",
        ",2024-13,1",
    )
    file.write_bytes(file.read_bytes() + b"\xff\n")
    code, _, err = invoke(portfolio_url, file)
    assert code == 1
    assert "line 2, amount: expected a number, found '[red]'" in err
    assert "line 4, activity_type: is missing" in err
    assert "line 4, activity_timestamp: 2024-13 is not a month of the calendar" in err
    assert "line 5, line: expected 5 fields" in err
    assert "Nothing was loaded: 3 of 4 lines are wrong" in err
    assert count(portfolio_engine) == 0

    code, out, _ = invoke(portfolio_url, file, "--skip-bad")
    assert code == 3
    assert "4 lines: 1 loaded, 0 there before, 3 rejected" in out
    rejects = (tmp_path / "activities.csv.rejects.csv").read_bytes().splitlines()
    assert [line.split(b",")[0] for line in rejects[1:3]] == [
        str(committed.product.id).encode()
    ] * 2
    assert rejects[3].startswith(b"\xff,")
    assert count(portfolio_engine) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_mark_of_a_file_says_how_it_is_written(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path, encoding: str
) -> None:
    """UTF-16, which Excel calls Unicode Text, is read if it has a byte order mark, and refused with
    its name if not.
    """
    file = write(tmp_path / "activities.csv", committed, "Investment,2024-01-15,9000")
    held = file.read_text().replace("Investment", "Gebühr").replace(",", "\t")
    file.write_text(held, encoding=encoding)
    code, out, err = invoke(portfolio_url, file, "--unknown-types")
    if encoding.endswith(("le", "be")):
        assert (code, out) == (2, "")
        assert "UTF-16" in err
        assert "CSV UTF-8" in err
        return
    assert (code, err) == (0, "")
    with Session(portfolio_engine) as session:
        assert session.scalars(select(HoldingActivityLog.activity_type)).all() == ["Gebühr"]


def test_a_file_that_goes_on_in_another_encoding(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path
) -> None:
    """If a file begins as UTF-16 and contains bytes that are not, the command prints one line, and
    loads nothing.
    """
    file = write(tmp_path / "activities.csv", committed, "Investment,2024-01-15,9000")
    file.write_bytes(file.read_text().encode("utf-16") + b"\xd8")
    code, out, err = invoke(portfolio_url, file)
    assert (code, out) == (2, "")
    assert "begins as UTF-16" in err
    assert count(portfolio_engine) == 0


def test_rejects_must_not_be_the_file(
    committed: Holding, portfolio_url: str, tmp_path: Path
) -> None:
    """The rejects cannot be written into the file that is loaded, and --rejects needs
    --skip-bad.
    """
    file = write(tmp_path / "activities.csv", committed, "Investment,2024-01-15,1")
    before = file.read_bytes()
    assert invoke(portfolio_url, file, "--skip-bad", "--rejects", file)[0] == 2
    assert invoke(portfolio_url, file, "--rejects", tmp_path / "other.csv")[0] == 2
    assert file.read_bytes() == before


def test_header_and_database_errors(portfolio_url: str, tmp_path: Path) -> None:
    """If the file or the database cannot be used, the command prints one line without a
    traceback.
    """
    file = tmp_path / "activities.csv"
    file.write_text("a,b\n")
    code, _, err = invoke(portfolio_url, file)
    assert code == 2
    assert "Line 1 must name the columns" in err
    code, _, err = invoke(portfolio_url.replace("_copy_", "_missing_"), file)
    assert code == 2
    assert "does not exist" in err


def test_a_database_without_the_portfolio_is_named(database_url: str, tmp_path: Path) -> None:
    """In a database without the portal's tables, the error names the first that is missing, and not
    the statement that fails because of that.
    """
    file = tmp_path / "activities.csv"
    file.write_text(HEADER + "1,1,Investment,2024-01-31,5\n")
    code, _, err = invoke(database_url, file)
    assert code == 2
    assert 'relation "portfolio_funds" does not exist' in err


def test_other_commands_do_not_need_the_portfolio() -> None:
    """Importing the load command imports neither the portfolio nor scipy."""
    program = (
        "import sys, sqla_seqreserve.cli.load; "
        "print([name for name in sys.modules if 'scipy' in name or 'portfolio' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_only_so_many_bad_lines_are_listed(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path
) -> None:
    """The command lists the first bad lines, up to --list-bad, and counts the others."""
    file = write(tmp_path / "activities.csv", committed, *["Investment,2024-01-15,x"] * 50)
    code, _, err = invoke(portfolio_url, file, "--list-bad", 3)
    assert code == 1
    assert [line.partition(",")[0] for line in err.splitlines()[:3]] == [
        "line 2",
        "line 3",
        "line 4",
    ]
    assert err.splitlines()[3:] == [
        "and 47 more bad lines",
        "Nothing was loaded: 50 of 50 lines are wrong",
    ]


@pytest.mark.parametrize("option", [[], ["--skip-bad"]])
def test_an_open_quote_ends_the_load(
    committed: Holding,
    portfolio_engine: Engine,
    portfolio_url: str,
    tmp_path: Path,
    option: list[str],
) -> None:
    """A quote that is not closed ends the load, with --skip-bad too, because it would swallow
    lines.
    """
    rows = ["Investment,2024-01-15,1"] * 6000
    file = write(tmp_path / "activities.csv", committed, rows[0], '"Investment,2024-01-15,1', *rows)
    code, _, err = invoke(portfolio_url, file, *option)
    assert code == 1
    [said] = err.splitlines()
    assert said.startswith("Nothing was loaded: line 3: a quote opens here, and is not closed by")
    assert count(portfolio_engine) == 0


def test_a_type_that_counts_nowhere_is_refused(
    committed: Holding, portfolio_engine: Engine, portfolio_url: str, tmp_path: Path
) -> None:
    """A misspelt activity type is refused, because the rates would ignore it; --unknown-types loads
    it.
    """
    file = write(
        tmp_path / "activities.csv",
        committed,
        "Investmnet,2024-01-15,1",
        "Annual fee,2024-01-15,1",
        "dividend,2024-01-15,1",
    )
    code, _, err = invoke(portfolio_url, file)
    assert code == 1
    assert "line 2, activity_type: 'Investmnet' is not known" in err
    assert "1 of 3 lines is wrong" in err
    assert invoke(portfolio_url, file, "--unknown-types")[0] == 0
    assert count(portfolio_engine) == 3


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_load_on_any_driver(
    driver: str, committed: Holding, portfolio_engine: Engine, tmp_path: Path
) -> None:
    """The command takes a URL of psycopg2 or asyncpg."""
    file = write(tmp_path / "activities.csv", committed, *["Investment,2024-01-15,9000"] * 30)
    url = portfolio_engine.url.set(drivername=f"postgresql+{driver}")
    code, out, err = invoke(url.render_as_string(hide_password=False), file, "--chunk-rows", 20)
    assert code == 0, err
    assert "30 lines: 30 loaded, 0 there before, 0 rejected" in out
    assert count(portfolio_engine) == 30
