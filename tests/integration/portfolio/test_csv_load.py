"""Loading activities from CSV: all lines or none, resumed by another run, in bounded memory."""

import csv
import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC
from decimal import Decimal

import pytest
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError, RowProblem
from sqla_seqreserve.portfolio.csv_load import load_activities
from sqla_seqreserve.portfolio.models import HoldingActivityLog
from sqla_seqreserve.testing import record_statements

HEADER = "product_id,portfolio_fund_id,activity_type,activity_timestamp,amount"


def line(holding: Holding, *fields: object, fund: int = 0) -> str:
    return ",".join(map(str, (holding.product.id, holding.funds[fund].id, *fields)))


def csv_of(*lines: str, header: str = HEADER) -> io.StringIO:
    return io.StringIO("\n".join((header, *lines)) + "\n", newline="")


def stored(session: Session) -> list[tuple[str, str, str | None]]:
    return [
        (
            row.activity_type,
            row.activity_timestamp.astimezone(UTC).isoformat(),
            row.amount and str(row.amount),
        )
        for row in session.scalars(select(HoldingActivityLog).order_by(HoldingActivityLog.id))
    ]


def test_lines_are_saved_in_order(holding: Holding) -> None:
    """Each line becomes an activity, in the order of the file, and the rates are recalculated."""
    holding.valued(0, ("2024-01-31", 10100))
    report = load_activities(
        holding.session,
        csv_of(
            line(holding, "Investment", "2024-01-15", "10000"),
            "",
            line(holding, '"Fee, ""yearly"""', "2024-02-15T10:00:00+01:00", ""),
            line(holding, "Withdrawal", "2024-03", "7.5", fund=1),
        ),
    )
    assert stored(holding.session) == [
        ("Investment", "2024-01-15T00:00:00+00:00", "10000.00"),
        ('Fee, "yearly"', "2024-02-15T09:00:00+00:00", None),
        ("Withdrawal", "2024-03-01T00:00:00+00:00", "7.50"),
    ]
    assert (report.lines, report.saved, report.present, report.rejected) == (3, 3, 0, 0)
    assert report.irr is not None
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}


def test_month_column(holding: Holding) -> None:
    """A file may give months instead of timestamps, and its columns may be in any order."""
    file = csv_of(
        f"5,2024-05,Investment,{holding.funds[0].id},{holding.product.id}",
        header="amount, month,activity_type,portfolio_fund_id,product_id",
    )
    load_activities(holding.session, file)
    assert stored(holding.session) == [("Investment", "2024-05-01T00:00:00+00:00", "5.00")]


def bad_file(holding: Holding) -> io.StringIO:
    return csv_of(
        line(holding, "Investment", "2024-01-15", "1"),
        line(holding, "Investment", "2024-02-30", "x"),
        line(holding, '"two\nlines"', "2024-01-15", "2"),
        "987654,987655,Investment,2024-01-15,3",
        line(holding, "Investment", "2024-01-15"),
        line(holding, "Invest\udce9ment", "2024-01-15", "5"),
        line(holding, "Withdrawal", "2024-01-16", "6"),
    )


PROBLEMS = [
    (3, "activity_timestamp"),
    (3, "amount"),
    (6, "portfolio_fund_id"),
    (6, "product_id"),
    (7, "line"),
    (8, "activity_type"),
]


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_nothing_is_written_unless_all_are_good(holding: Holding, chunk_rows: int) -> None:
    """All bad lines are reported with their numbers, in any chunk, and nothing is written."""
    found: list[RowProblem] = []
    with pytest.raises(InvalidRowsError, match="Nothing was loaded: 4 of 7 lines") as caught:
        load_activities(
            holding.session, bad_file(holding), chunk_rows=chunk_rows, on_problem=found.append
        )
    assert sorted((problem.index, problem.attribute) for problem in found) == PROBLEMS
    assert list(caught.value.problems) == found
    assert stored(holding.session) == []


def test_bad_lines_are_left_out_and_come_back_corrected(holding: Holding) -> None:
    """With ``skip_bad`` the good lines are loaded, and the file of rejects can be loaded as it is
    once its rows are corrected.
    """
    rejects = io.StringIO(newline="")
    report = load_activities(holding.session, bad_file(holding), skip_bad=True, rejects=rejects)
    assert (report.lines, report.saved, report.rejected) == (7, 3, 4)
    rejected = list(csv.DictReader(io.StringIO(rejects.getvalue(), newline="")))
    assert [(row["line"], row["amount"]) for row in rejected] == [
        ("3", "x"),
        ("6", "3"),
        ("7", ""),
        ("8", "5"),
    ]
    assert rejected[0]["problem"].startswith("activity_timestamp: expected a date")
    assert "; amount: expected a number, found 'x'" in rejected[0]["problem"]

    corrected = io.StringIO(newline="")
    writer = csv.DictWriter(corrected, rejected[0].keys())
    writer.writeheader()
    for row in rejected:
        row.update(
            product_id=str(holding.product.id),
            portfolio_fund_id=str(holding.funds[1].id),
            activity_type="Fee",
            activity_timestamp="2024-02-28",
            amount="4",
        )
        writer.writerow(row)
    corrected.seek(0)
    assert load_activities(holding.session, corrected).saved == 4
    assert len(stored(holding.session)) == 7


def test_running_it_again_loads_nothing(holding: Holding) -> None:
    """If the same lines are loaded again, none is saved twice, also with an empty amount."""
    lines = [
        line(holding, "Investment", "2024-01-15", "10000"),
        line(holding, "Investment", "2024-01-15T01:00:00+01:00", "10000", fund=1),
        line(holding, "Fee", "2024-01-15", ""),
    ]
    load_activities(holding.session, csv_of(*lines))
    report = load_activities(holding.session, csv_of(*reversed(lines)))
    assert (report.saved, report.present) == (0, 3)
    assert len(stored(holding.session)) == 3


def test_equal_lines_are_counted(holding: Holding) -> None:
    """Equal lines are counted: of three, one is saved if the table has two."""
    twice = line(holding, "Investment", "2024-01-15", "50")
    assert load_activities(holding.session, csv_of(twice, twice)).saved == 2
    report = load_activities(holding.session, csv_of(twice, twice, twice))
    assert (report.saved, report.present) == (1, 2)
    other = line(holding, "Investment", "2024-01-15", "50.01")
    assert load_activities(holding.session, csv_of(twice, other)).saved == 1


class BreakdownError(Exception):
    pass


def test_load_that_was_broken_off_is_resumed(portfolio_engine: Engine) -> None:
    """If a load breaks off, the committed chunks stay; another run loads the rest and recalculates
    the rates.
    """
    with portfolio_engine.connect() as connection, Session(bind=connection) as session:
        register(session, reserve="always")
        holding = make_holding(session, 1)
        holding.valued(0, ("2024-01-31", 10100))
        session.commit()
        lines = [line(holding, "Investment", "2024-01-15", "50") for _ in range(100)]
        lines += [line(holding, "Investment", f"2024-01-{n % 28 + 1:02}", n) for n in range(100)]
        total = sum(Decimal(each.rsplit(",", 1)[1]) for each in lines)
        commits = 0

        def commit() -> None:
            nonlocal commits
            session.commit()
            commits += 1
            if commits == 3:
                raise BreakdownError

        with pytest.raises(BreakdownError):
            load_activities(session, csv_of(*lines), chunk_rows=20, commit=commit)
        session.rollback()
        assert len(stored(session)) == 60
        assert holding.fund_irrs() == {}
        report = load_activities(session, csv_of(*lines), chunk_rows=20, commit=session.commit)
        assert (report.saved, report.present) == (140, 60)
        assert session.scalar(select(func.sum(HoldingActivityLog.amount))) == total
        assert len(holding.fund_irrs()) == 1


def test_committing_needs_one_connection(portfolio_engine: Engine) -> None:
    """Committing between chunks is refused for a session that is not bound to one connection."""
    with (
        Session(portfolio_engine) as session,
        pytest.raises(ConfigurationError, match="Session\\(bind=connection\\)"),
    ):
        load_activities(session, csv_of(), commit=session.commit)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("", "lacks product_id"),
        (HEADER.replace("amount", "ammount"), "lacks amount, has 'ammount', which is not known"),
        (HEADER.replace("activity_timestamp", "line"), "lacks activity_timestamp or month"),
        (f"{HEADER},amount", "has amount twice"),
    ],
)
def test_header_is_checked(session: Session, header: str, complaint: str) -> None:
    """A wrong header is refused, and the error says what is wrong with its columns."""
    with pytest.raises(ConfigurationError, match=complaint):
        load_activities(session, csv_of(header=header))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_header_says_what_stands_between_fields(holding: Holding, delimiter: str) -> None:
    """Semicolons, tabs and bars between fields are read like commas, and an amount with a decimal
    comma is refused with that reason.
    """
    rows = [
        HEADER,
        line(holding, "Investment", "2024-01-15", "10"),
        line(holding, "Fee", "2024-01-16", "1"),
    ]
    rows = [row.replace(",", delimiter) for row in rows]
    report = load_activities(holding.session, csv_of(*rows[1:], header=rows[0]))
    assert (report.lines, report.saved) == (2, 2)
    found: list[RowProblem] = []
    bad = rows[1].replace(f"{delimiter}10", f"{delimiter}10,50")
    with pytest.raises(InvalidRowsError):
        load_activities(holding.session, csv_of(bad, header=rows[0]), on_problem=found.append)
    assert "a point before its decimals and no comma, found '10,50'" in found[0].problem


@pytest.mark.parametrize("mark", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;;;"])
def test_excels_line_about_the_separator_is_no_header(holding: Holding, mark: str) -> None:
    """A line ``sep=;`` before the header sets the separator, and the numbers of later lines include
    it.
    """
    good = line(holding, "Investment", "2024-01-15", "10").replace(",", ";")
    bad = line(holding, "Fee", "yesterday", "1").replace(",", ";")
    found: list[RowProblem] = []
    report = load_activities(
        holding.session,
        csv_of(HEADER.replace(",", ";"), good, bad, header=mark),
        skip_bad=True,
        on_problem=found.append,
    )
    assert (report.saved, report.rejected) == (1, 1)
    assert [(problem.index, problem.attribute) for problem in found] == [(4, "activity_timestamp")]


def test_what_a_sheet_adds_is_left_out(holding: Holding) -> None:
    """Column names may have capitals or spaces, and empty columns and empty lines at the file's end
    are ignored.
    """
    good = line(holding, "Investment", "2024-01-15", "10")
    file = csv_of(
        f"{good},,",
        good,
        f"{good},",
        ",,,,",
        ",,,,,,",
        " ; ",
        header=f"{HEADER.title().replace('_', ' ')},,",
    )
    report = load_activities(holding.session, file, skip_bad=True)
    # The last line does not consist of commas alone, so it is rejected.
    assert (report.lines, report.saved, report.rejected) == (4, 3, 1)


@pytest.mark.parametrize(
    ("begin", "what"),
    [("PK\x03\x04\x14\x00", "a workbook"), ("p\x00r\x00o\x00d\x00", "UTF-16")],
)
def test_what_is_no_csv_is_named(session: Session, begin: str, what: str) -> None:
    """A workbook, or UTF-16 without a byte order mark, is refused, and the error names it and says
    to save as "CSV UTF-8".
    """
    with pytest.raises(ConfigurationError, match=rf"{what}.*CSV UTF-8"):
        load_activities(session, csv_of(header=begin))


def test_unreadable_csv_is_a_bad_line(holding: Holding) -> None:
    """A line that cannot be read as CSV is a bad line, and the next line is read."""
    file = csv_of(
        line(holding, "x" * 200_000, "2024-01-15", "1"),
        line(holding, "Investment", "2024-01-15", "2"),
    )
    report = load_activities(holding.session, file, skip_bad=True)
    assert (report.saved, report.rejected) == (1, 1)


def test_progress_is_told(holding: Holding) -> None:
    """The progress callback gets the number of lines checked, then the number of rows saved and
    their total.
    """
    told: list[tuple[str, int, int | None]] = []
    load_activities(
        holding.session,
        csv_of(*(line(holding, "Investment", "2024-01-15", n) for n in range(5))),
        chunk_rows=2,
        progress=lambda stage, rows, total: told.append((stage, rows, total)),
    )
    assert told == [
        ("check", 2, None),
        ("check", 4, None),
        ("check", 5, None),
        ("save", 2, 5),
        ("save", 4, 5),
        ("save", 5, 5),
    ]


def test_rates_can_be_skipped(holding: Holding) -> None:
    """With skip_irr_calculation no rate is stored."""
    holding.valued(0, ("2024-01-31", 10100))
    file = csv_of(line(holding, "Investment", "2024-01-15", "10000"))
    assert load_activities(holding.session, file, skip_irr_calculation=True).irr is None
    assert holding.fund_irrs() == {}


def test_temporary_table_is_gone(holding: Holding) -> None:
    """After a load, successful or refused, its temporary table is dropped."""
    load_activities(holding.session, csv_of(line(holding, "Investment", "2024-01-15", "1")))
    with pytest.raises(InvalidRowsError):
        load_activities(holding.session, csv_of(line(holding, "", "2024-01-15", "1")))
    left = text("SELECT to_regclass('pg_temp.sqla_seqreserve_load')")
    assert holding.session.scalar(left) is None


def test_statements_grow_with_chunks_only(portfolio_engine: Engine, holding: Holding) -> None:
    """A chunk of 1,000 rows takes as many statements as a chunk of 10."""
    # Few rows go by COPY too: an INSERT of several rows would be one statement per row.
    register(holding.session, reserve="always", copy_min_rows=1)

    def sent(rows: int, chunk_rows: int) -> int:
        file = csv_of(*(line(holding, "Investment", "2024-01-15", n) for n in range(rows)))
        with record_statements(portfolio_engine) as recorded:
            load_activities(holding.session, file, chunk_rows=chunk_rows)
        holding.session.execute(text("DELETE FROM holding_activity_log"))
        return len(recorded)

    sent(10, 10)
    assert sent(10, 10) == sent(1000, 1000)


def test_memory_is_bounded(portfolio_engine: Engine) -> None:
    """Loading ten times the lines takes less than 1.5 times the memory, also with bad and equal
    lines.
    """
    with portfolio_engine.connect() as connection, Session(bind=connection) as session:
        register(session, reserve="always")
        holding = make_holding(session, 1)
        session.commit()

        def lines(count: int) -> Iterator[str]:
            yield f"{HEADER}\n"
            for number in range(count):
                amount = "x" if number % 10 == 0 else str(number % 1000)
                yield line(holding, "Investment", "2024-01-15", amount) + "\n"

        def peak(count: int) -> int:
            tracemalloc.start()
            report = load_activities(
                session, lines(count), chunk_rows=100, skip_bad=True, commit=session.commit
            )
            assert report.rejected == count // 10
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return used

        peak(200)
        few, many = peak(400), peak(4000)
        assert many < few * 1.5
