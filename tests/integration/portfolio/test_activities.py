"""Saving activities: rows are validated first, then saved together, and an error of the rates loses
no activity.
"""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve.errors import InvalidRowsError
from sqla_seqreserve.portfolio.activities import save_activities
from sqla_seqreserve.portfolio.models import HoldingActivityLog
from sqla_seqreserve.testing import record_statements


def stored(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(HoldingActivityLog)) or 0


def next_id(session: Session) -> int:
    """The id that the sequence would give next, without taking it."""
    query = "SELECT last_value + is_called::int FROM holding_activity_log_id_seq"
    return int(session.scalar(text(query)) or 0)


def test_empty_input(session: Session) -> None:
    """save_activities returns an empty list if there are no rows."""
    assert save_activities(session, []) == []


def test_saved_objects_come_back_in_order(holding: Holding) -> None:
    """save_activities returns persistent objects in the order of the rows, and their ids ascend in
    that order.
    """
    rows = [holding.logged(n % 2, "Investment", "2024-05-17", n) for n in range(50)]
    saved = save_activities(holding.session, rows)
    assert [activity.amount for activity in saved] == [Decimal(n) for n in range(50)]
    assert [activity.id for activity in saved] == sorted(activity.id for activity in saved)
    holding.session.expire_all()
    assert saved[7].activity_type == "Investment"
    assert saved[7].portfolio_fund_id == holding.funds[1].id


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        (date(2024, 5, 17), datetime(2024, 5, 17, tzinfo=UTC)),
        ("2024-05-17", datetime(2024, 5, 17, tzinfo=UTC)),
        ("2024-05", datetime(2024, 5, 1, tzinfo=UTC)),
        (
            datetime(2024, 5, 17, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2024, 5, 16, 23, tzinfo=UTC),
        ),
        ("2024-05-17T01:00:00+02:00", datetime(2024, 5, 16, 23, tzinfo=UTC)),
        ("2024-05-17T01:00:00Z", datetime(2024, 5, 17, 1, tzinfo=UTC)),
    ],
)
def test_moments(holding: Holding, given: object, moment: datetime) -> None:
    """A date or a month is stored as its midnight in UTC; a datetime with a time zone is stored as
    the same moment.
    """
    row = {**holding.logged(0, "Investment", "2024-01-01", 1), "activity_timestamp": given}
    [activity] = save_activities(holding.session, [row])
    holding.session.expire_all()
    assert activity.activity_timestamp == moment


def test_month_in_place_of_a_timestamp(holding: Holding) -> None:
    """A row that gives a month instead of a timestamp is stored as the month's first midnight in
    UTC.
    """
    row = {**holding.logged(0, "Investment", "2024-01-01", 1), "month": "2024-05"}
    del row["activity_timestamp"]
    [activity] = save_activities(holding.session, [row])
    assert activity.activity_timestamp == datetime(2024, 5, 1, tzinfo=UTC)
    # Beside a timestamp it must be that month's, in UTC or where the activity took place.
    row["activity_timestamp"] = "2024-05-01T00:30:00+02:00"
    for month in ("2024-04", "2024-05"):
        save_activities(holding.session, [{**row, "month": month}])


def test_amounts_are_stored_at_two_places(holding: Holding) -> None:
    """An amount may be a number, text or None, and is rounded to two places as the column
    rounds.
    """
    given = [2500, "99.95", 0.1, Decimal("0.125"), " 7 ", None, "", "1e3", 0]
    rows = [holding.logged(0, "Investment", "2024-01-01", amount) for amount in given]  # type: ignore[arg-type]  # of all kinds, on purpose
    saved = save_activities(holding.session, rows)
    before = [activity.amount for activity in saved]
    expected = ["2500.00", "99.95", "0.10", "0.13", "7.00", None, None, "1000.00", "0.00"]
    assert [None if amount is None else str(amount) for amount in before] == expected
    holding.session.expire_all()
    assert [activity.amount for activity in saved] == before


BAD = [
    ({"portfolio_fund_id": None}, "portfolio_fund_id", "is missing"),
    ({"product_id": None}, "product_id", "is missing"),
    ({"activity_type": None}, "activity_type", "is missing"),
    ({"activity_type": "  "}, "activity_type", "is missing"),
    ({"activity_type": 5}, "activity_type", "expected text"),
    ({"activity_type": "a\x00b"}, "activity_type", "NUL"),
    ({"activity_type": "\udce9"}, "activity_type", "UTF-8"),
    ({"amount": "12,50"}, "amount", "expected a number"),
    ({"amount": "1_000"}, "amount", "expected a number"),
    ({"amount": True}, "amount", "expected a number"),
    ({"amount": float("nan")}, "amount", "finite"),
    ({"amount": "NaN"}, "amount", "finite"),
    ({"amount": Decimal("sNaN")}, "amount", "finite"),
    ({"amount": "Infinity"}, "amount", "finite"),
    ({"amount": float("-inf")}, "amount", "finite"),
    ({"amount": -1}, "amount", "0 or more"),
    ({"amount": 10**12}, "amount", "at most"),
    ({"activity_timestamp": None}, "activity_timestamp", "is missing"),
    ({"activity_timestamp": datetime(2024, 5, 17)}, "activity_timestamp", "time zone"),  # noqa: DTZ001  naive on purpose
    ({"activity_timestamp": "2024-05-17T10:00:00"}, "activity_timestamp", "time zone"),
    ({"activity_timestamp": "17/05/2024"}, "activity_timestamp", "ISO 8601"),
    ({"activity_timestamp": "2024-02-30"}, "activity_timestamp", "ISO 8601"),
    ({"activity_timestamp": "2024-13"}, "activity_timestamp", "not a month"),
    ({"activity_timestamp": 1715904000}, "activity_timestamp", "expected a date"),
    ({"activity_timestamp": None, "month": "2024-13"}, "month", "not a month of the calendar"),
    ({"activity_timestamp": None, "month": "2024-5"}, "month", "YYYY-MM"),
    ({"activity_timestamp": None, "month": "2024-05-01"}, "month", "YYYY-MM"),
    ({"activity_timestamp": None, "month": "0000-01"}, "month", "not a month"),
    ({"month": "2024-02"}, "month", "not the month of activity_timestamp"),
    ({"month": "2024-1"}, "month", "YYYY-MM"),
    ({"portfolio_fund_id": "x"}, "portfolio_fund_id", "whole number"),
    ({"portfolio_fund_id": 2**63}, "portfolio_fund_id", "whole number"),
    ({"portfolio_fund_id": 987654}, "portfolio_fund_id", "no fund has the id 987654"),
    ({"product_id": 987654}, "product_id", "no product has the id 987654"),
    ({"ammount": 3}, "ammount", "is not an attribute"),
]


@pytest.mark.parametrize(("change", "attribute", "problem"), BAD)
def test_bad_rows_are_named(
    holding: Holding, change: dict[str, object], attribute: str, problem: str
) -> None:
    """The error gives a bad row's position and attribute, and says what is wrong."""
    good = holding.logged(0, "Investment", "2024-01-01", 1)
    with pytest.raises(InvalidRowsError) as caught:
        save_activities(holding.session, [good, {**good, **change}, good])
    [found] = caught.value.problems
    assert (found.index, found.attribute) == (1, attribute)
    assert problem in found.problem


def test_every_bad_row_is_named_and_nothing_is_reserved(holding: Holding) -> None:
    """The error lists all problems of all rows; no row is written and no id is taken."""
    before = next_id(holding.session)
    good = holding.logged(0, "Investment", "2024-01-01", 1)
    rows = [good, *({**good, **change} for change, _, _ in BAD)]
    rows.append({"portfolio_fund_id": 987654, "amount": "x"})
    with pytest.raises(InvalidRowsError) as caught:
        save_activities(holding.session, rows)
    problems = caught.value.problems
    assert [problem.index for problem in problems[: len(BAD)]] == list(range(1, len(BAD) + 1))
    assert {problem.attribute for problem in problems[len(BAD) :]} == {
        "product_id",
        "portfolio_fund_id",
        "activity_type",
        "activity_timestamp",
        "amount",
    }
    assert str(caught.value).startswith(f"No activity was saved: {len(BAD) + 1} of {len(BAD) + 2}")
    assert stored(holding.session) == 0
    assert next_id(holding.session) == before


def test_new_objects_are_rows_too(holding: Holding) -> None:
    """New objects of the model are checked like rows, and the same objects are saved."""
    activity = HoldingActivityLog(
        product=holding.product,
        portfolio_fund=holding.funds[0],
        activity_type="Investment",
        activity_timestamp=datetime(2024, 1, 1, tzinfo=UTC),
        amount=Decimal(5),
    )
    assert save_activities(holding.session, [activity])[0] is activity
    with pytest.raises(InvalidRowsError, match="row 0, activity_type: is missing"):
        save_activities(holding.session, [HoldingActivityLog(product_id=holding.product.id)])


def test_rates_are_recalculated_from_the_earliest_date(holding: Holding) -> None:
    """Rates are recalculated from the date of the earliest activity, in any order of the rows."""
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10200), ("2024-03-31", 10300))
    saved = save_activities(
        holding.session,
        [
            holding.logged(0, "Investment", "2024-03-05", 50),
            holding.logged(0, "Investment", "2024-01-15", 10000),
            holding.logged(0, "Withdrawal", "2024-02-20", 50),
        ],
    )
    assert {day for _, day in holding.fund_irrs()} == {"2024-01-31", "2024-02-29", "2024-03-31"}
    assert saved.irr is not None
    assert saved.irr.fund_irrs == 3


def test_each_portfolio_from_its_own_earliest_date(session: Session) -> None:
    """Each portfolio is recalculated from its own earliest activity, not from that of another
    portfolio.
    """
    one, other = make_holding(session, 1), make_holding(session, 1)
    for holding in (one, other):
        holding.valued(0, ("2024-01-31", 100), ("2024-02-29", 100))
    save_activities(
        session,
        [
            one.logged(0, "Investment", "2024-01-15", 100),
            other.logged(0, "Investment", "2024-02-15", 100),
        ],
    )
    assert len(one.fund_irrs()) == 2
    assert set(other.fund_irrs()) == {(0, "2024-02-29")}


def test_recalculation_can_be_skipped(holding: Holding) -> None:
    """With skip_irr_calculation no rate is stored, and the result's irr is None."""
    holding.valued(0, ("2024-01-31", 10100))
    row = holding.logged(0, "Investment", "2024-01-15", 10000)
    saved = save_activities(holding.session, [row], skip_irr_calculation=True)
    assert saved.irr is None
    assert holding.fund_irrs() == {}


def test_flows_without_a_rate_do_not_lose_the_activities(holding: Holding) -> None:
    """If flows have no rate, the activities are saved, and the result reports the date."""
    holding.valued(0, ("2024-01-31", 0))
    rows = [
        holding.logged(0, "Investment", "2023-12-15", 10),
        holding.logged(0, "Investment", "2024-01-15", 10),
    ]
    saved = save_activities(holding.session, rows)
    holding.session.commit()
    assert saved.irr is not None
    assert [str(failure.date) for failure in saved.irr.failures] == ["2024-01-31"]
    assert stored(holding.session) == 2


def test_failed_recalculation_never_loses_the_activities(
    holding: Holding, caplog: pytest.LogCaptureFixture
) -> None:
    """If the database refuses the rates, the activities are saved, and the error is logged and
    reported.
    """
    holding.valued(0, ("2024-01-31", 10100))
    holding.session.execute(
        text("ALTER TABLE portfolio_fund_irr_values ADD CONSTRAINT none CHECK (irr_result < 0)")
    )
    with caplog.at_level(logging.ERROR, "sqla_seqreserve.portfolio"):
        saved = save_activities(
            holding.session, [holding.logged(0, "Investment", "2024-01-15", 10000)]
        )
    assert saved.irr is not None
    assert isinstance(saved.irr.error, DBAPIError)
    assert "were not recalculated" in caplog.text
    holding.session.commit()
    assert stored(holding.session) == 1
    assert saved[0].amount == 10000
    assert holding.fund_irrs() == {}


def test_nothing_is_committed(holding: Holding) -> None:
    """save_activities does not commit: the caller's rollback undoes it."""
    holding.session.commit()
    holding.valued(0, ("2024-01-31", 10100))
    save_activities(holding.session, [holding.logged(0, "Investment", "2024-01-15", 10000)])
    holding.session.rollback()
    assert stored(holding.session) == 0
    assert holding.fund_irrs() == {}


def test_statements_do_not_grow_with_rows(portfolio_engine: Engine, holding: Holding) -> None:
    """Saving a thousand activities takes the same statements as saving ten."""
    # Few rows go by COPY too: an INSERT of several rows would be one statement per row.
    register(holding.session, reserve="always", copy_min_rows=1)
    holding.valued(0, ("2024-01-31", 10100))

    def sent(count: int) -> list[str]:
        rows = [holding.logged(n % 2, "Investment", "2024-01-15", 100 + n) for n in range(count)]
        with record_statements(portfolio_engine) as recorded:
            save_activities(holding.session, rows)
        return [statement.sql.split(None, 1)[0] for statement in recorded]

    sent(10)
    assert sent(10) == sent(1000)


def test_simultaneous_bulk_saves(portfolio_engine: Engine, in_threads: Callable[..., None]) -> None:
    """Twelve threads save into one portfolio at once, with rates: all succeed, and all rows are
    stored.
    """
    with Session(portfolio_engine) as session:
        holding = make_holding(session, 3)
        for position in range(3):
            holding.valued(position, ("2024-01-31", 1000), ("2024-02-29", 1000))
        rows = [holding.logged(n % 3, "Investment", "2024-01-15", 1) for n in range(60)]
        session.commit()

        def work() -> None:
            with Session(portfolio_engine) as own:
                register(own, reserve="always")
                assert save_activities(own, rows).irr is not None
                own.commit()

        in_threads(work, 12)
        assert stored(session) == 720
        # 240 invested, worth 1000 at the end of the month and of the next.
        assert holding.fund_irrs()[0, "2024-01-31"] == "3800.00"
