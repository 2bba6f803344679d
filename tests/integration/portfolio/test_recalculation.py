"""Recalculation of rates: which are stored, from which date on, and with how many statements."""

import logging
from collections.abc import Callable
from datetime import date

import pytest
from fixtures.portfolio_holdings import Holding, make_holding, recalculate_since
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve.portfolio.errors import OneSidedFlowsError
from sqla_seqreserve.portfolio.models import (
    PortfolioFund,
    PortfolioFundIrrValue,
    PortfolioFundValuation,
    PortfolioIrrValue,
)
from sqla_seqreserve.portfolio.recalculation import RecalculationReport, recalculate
from sqla_seqreserve.testing import record_statements


def test_worked_example(holding: Holding) -> None:
    """10000 invested and worth 10100 give a rate of 12.00 at the end of the same month, and of 5.99
    at the end of the next: the closing flow is a month later.
    """
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00", (0, "2024-02-29"): "5.99"}


def test_activities_count_up_to_the_end_of_the_day(holding: Holding) -> None:
    """An activity in the last second of the date counts, and one at the next midnight in UTC does
    not.
    """
    holding.log(0, "Investment", "2024-01-31T23:59:59+00:00", 1000)
    holding.log(0, "Investment", "2024-02-01T00:30:00+02:00", 9000)
    holding.log(0, "Withdrawal", "2024-02-01T00:00:00+00:00", 500)
    holding.valued(0, ("2024-01-31", 10100))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_days_are_those_of_utc(holding: Holding, zone: str) -> None:
    """The time zone of the database session moves no activity into another month."""
    holding.session.connection().exec_driver_sql(f"SET TIME ZONE '{zone}'")
    holding.log(0, "Investment", "2024-01-01T00:00:00+00:00", 5000)
    holding.log(0, "Investment", "2024-01-31T23:59:00+00:00", 5000)
    holding.valued(0, ("2024-01-31", 10100))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}


def test_newest_valuation_on_or_before_the_date(holding: Holding) -> None:
    """On the valuation date of another fund a fund's rate uses its newest valuation by then."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    holding.valued(1, ("2024-01-31", 10000))
    recalculate_since(holding)
    assert holding.fund_irrs() == {
        (0, "2024-01-31"): "12.00",
        (1, "2024-01-31"): "0.00",
        (0, "2024-02-29"): "5.99",
        (1, "2024-02-29"): "0.00",
    }
    used = holding.session.scalars(
        select(PortfolioFundValuation.valuation_date)
        .join(PortfolioFundIrrValue)
        .where(PortfolioFundIrrValue.fund_id == holding.funds[1].id)
    ).all()
    assert used == [date(2024, 1, 31)] * 2


def test_fund_without_a_valuation_by_then_has_no_rate(holding: Holding) -> None:
    """A fund has no rate before its first valuation."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    holding.valued(1, ("2024-02-29", 10100))
    report = recalculate_since(holding)
    assert (1, "2024-01-31") not in holding.fund_irrs()
    assert report.failures == ()


def test_zero_valuation_closes_with_nothing(holding: Holding) -> None:
    """A fund that was sold has the value zero, and its rate comes from its own flows."""
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(0, "Withdrawal", "2024-02-15", 10100)
    holding.valued(0, ("2024-06-30", 0))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-06-30"): "12.00"}


def test_no_activity_is_a_rate_of_zero(holding: Holding) -> None:
    """If a fund has a valuation and no activity by then, its rate is 0.0."""
    holding.log(0, "Investment", "2024-02-01", 10000)
    holding.valued(0, ("2024-01-31", 100))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "0.00"}


def test_flows_that_cancel_out_are_a_rate_of_zero(holding: Holding) -> None:
    """If the flows of each month cancel out to less than a cent, the rate is 0.0."""
    holding.log(0, "Investment", "2024-01-01", "10.10")
    holding.log(0, "Withdrawal", "2024-01-20", "10.10")
    holding.log(0, "Investment", "2024-01-20", None)
    holding.valued(0, ("2024-01-31", 0))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "0.00"}


def test_unknown_type_counts_for_nothing_and_is_logged(
    holding: Holding, caplog: pytest.LogCaptureFixture
) -> None:
    """An activity of an unknown type adds no flow, and one warning says how many there are."""
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(0, "Rebalance", "2024-01-16", 777)
    holding.log(0, "Rebalance", "2024-01-17", 777)
    holding.valued(0, ("2024-01-31", 10100))
    with caplog.at_level(logging.WARNING, "sqla_seqreserve.portfolio"):
        recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}
    [record] = caplog.records
    assert "'Rebalance' is not known and counts as no flow (2 rows)" in record.getMessage()


def test_change_reaches_every_fund_and_later_date_only(holding: Holding) -> None:
    """From the changed date on, the rates of all funds are recalculated, and earlier rates stay."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
        holding.valued(fund, ("2024-01-31", 10100), ("2024-02-29", 10100), ("2024-03-31", 10100))
    recalculate_since(holding)
    wrong = {"irr_result": -1}
    holding.session.execute(update(PortfolioFundIrrValue).values(wrong))
    holding.session.execute(update(PortfolioIrrValue).values(wrong))
    report = recalculate_since(holding, "2024-02-29")
    assert set(holding.fund_irrs().items()) == {
        ((fund, day), rate)
        for fund in (0, 1)
        for day, rate in (
            ("2024-01-31", "-1.00"),
            ("2024-02-29", "5.99"),
            ("2024-03-31", "3.99"),
        )
    }
    assert holding.portfolio_irrs() == {
        "2024-01-31": "-1.00",
        "2024-02-29": "5.99",
        "2024-03-31": "3.99",
    }
    assert (report.fund_irrs, report.portfolio_irrs, report.stored) == (4, 2, 6)


def test_what_is_right_already_is_not_written(holding: Holding) -> None:
    """A second recalculation finds the same rates and writes nothing."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
        holding.valued(fund, ("2024-01-31", 10100))
    assert recalculate_since(holding).stored == 3
    report = recalculate_since(holding)
    assert (report.fund_irrs, report.portfolio_irrs) == (2, 1)
    assert (report.stored, report.deleted) == (0, 0)


def test_incomplete_date_loses_its_portfolio_rate(holding: Holding) -> None:
    """If a fund's valuation is deleted, the portfolio's rate of that date is deleted."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
        holding.valued(fund, ("2024-01-31", 10100))
    recalculate_since(holding)
    assert holding.portfolio_irrs() == {"2024-01-31": "12.00"}
    holding.session.delete(
        holding.session.scalars(
            select(PortfolioFundValuation).where(
                PortfolioFundValuation.portfolio_fund_id == holding.funds[1].id
            )
        ).one()
    )
    report = recalculate_since(holding, "2024-01-31")
    assert holding.portfolio_irrs() == {}
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}
    assert report.deleted == 2


def test_rate_that_cannot_be_given_is_reported_and_not_stored(
    holding: Holding, caplog: pytest.LogCaptureFixture
) -> None:
    """A rate that cannot be calculated is logged with its fund and date, and the old rate is
    deleted.
    """
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(1, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100))
    holding.valued(1, ("2024-01-31", 10100))
    recalculate_since(holding)
    holding.session.execute(
        update(PortfolioFundValuation)
        .where(PortfolioFundValuation.portfolio_fund_id == holding.funds[1].id)
        .values(valuation=0)
    )
    holding.log(1, "Investment", "2023-12-15", 10000)
    with caplog.at_level(logging.WARNING, "sqla_seqreserve.portfolio"):
        report = recalculate_since(holding)
    [failure] = report.failures
    assert (failure.fund_id, failure.date) == (holding.funds[1].id, date(2024, 1, 31))
    assert isinstance(failure.error, OneSidedFlowsError)
    assert f"fund {holding.funds[1].id} on 2024-01-31" in caplog.text
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}
    assert "2024-01-31" in holding.portfolio_irrs()


def test_portfolio_that_is_not_named_is_left_alone(session: Session) -> None:
    """Only the portfolios that are named are recalculated."""
    one, other = make_holding(session), make_holding(session)
    for holding in (one, other):
        holding.log(0, "Investment", "2024-01-15", 10000)
        holding.valued(0, ("2024-01-31", 10100))
    recalculate_since(one)
    assert one.fund_irrs() == {(0, "2024-01-31"): "12.00"}
    assert other.fund_irrs() == {}


def test_each_portfolio_from_its_own_date(session: Session) -> None:
    """Portfolios that are recalculated together each start at their own date."""
    one, other = make_holding(session, 1), make_holding(session, 1)
    for holding in (one, other):
        holding.log(0, "Investment", "2024-01-15", 10000)
        holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    recalculate(
        session, {one.portfolio.id: date(2024, 2, 1), other.portfolio.id: date(2024, 1, 31)}
    )
    assert set(one.portfolio_irrs()) == {"2024-02-29"}
    assert set(other.portfolio_irrs()) == {"2024-01-31", "2024-02-29"}


def test_nothing_to_recalculate(session: Session) -> None:
    """Without changes, or for a portfolio without funds, nothing is recalculated."""
    assert recalculate(session, {}) == RecalculationReport()
    empty = make_holding(session, 0)
    assert recalculate_since(empty) == RecalculationReport()


def statements(engine: Engine, portfolios: int, funds: int, dates: int) -> list[str]:
    """Recalculate so many rates on one connection, and return the statements."""
    days = [date(2014 + month // 12, month % 12 + 1, 28) for month in range(dates)]
    with Session(engine) as session:
        # Few rows go by COPY too: an INSERT of several rows would be one statement per row.
        register(session, reserve="always", copy_min_rows=1)
        holdings = [make_holding(session, funds) for _ in range(portfolios)]
        for holding in holdings:
            for position in range(funds):
                holding.log(position, "Investment", "2014-01-01", 1000)
                holding.log(position, "Withdrawal", "2014-03-01", 10)
                holding.valued(position, *((day.isoformat(), 1100) for day in days))
        changes = {holding.portfolio.id: date(2014, 1, 1) for holding in holdings}
        # Half of the rates exist with wrong values, and one is of a date without a valuation, so
        # that updates and deletes are needed.
        half = [day for day in days if day.year % 2]
        session.add_all(
            PortfolioFundIrrValue(fund_id=holding.funds[0].id, date=day, irr_result=-1)
            for holding in holdings
            for day in (*half, date(2030, 1, 1))
        )
        session.flush()
        with record_statements(engine) as recorded:
            report = recalculate(session, changes)
        assert report.fund_irrs == portfolios * funds * dates
        assert report.portfolio_irrs == portfolios * dates
        assert report.deleted == portfolios
        return [statement.sql for statement in recorded]


def test_statements_do_not_grow(portfolio_engine: Engine) -> None:
    """Recalculating many funds, dates and portfolios takes as many statements of each kind as one
    fund.
    """

    def kinds(sent: list[str]) -> dict[str, int]:
        words = [statement.split(None, 1)[0] for statement in sent]
        return {word: words.count(word) for word in sorted(set(words))}

    # The catalogue is read once per engine.
    statements(portfolio_engine, portfolios=1, funds=1, dates=30)
    small = statements(portfolio_engine, portfolios=1, funds=1, dates=30)
    large = statements(portfolio_engine, portfolios=3, funds=12, dates=60)
    assert kinds(large) == kinds(small)
    assert kinds(large) == {"COPY": 3, "DELETE": 1, "SELECT": 12, "UPDATE": 1}


def test_unflushed_changes_are_seen(holding: Holding) -> None:
    """In a session without autoflush pending objects are recalculated too."""
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.session.autoflush = False
    holding.session.add(
        PortfolioFundValuation(
            portfolio_fund_id=holding.funds[0].id, valuation_date=date(2024, 1, 31), valuation=10100
        )
    )
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}


def test_concurrent_recalculations_take_turns(
    portfolio_engine: Engine, in_threads: Callable[..., None]
) -> None:
    """Eight sessions that recalculate the same portfolio at once all succeed, and the rates are
    right.
    """
    with Session(portfolio_engine) as session:
        holding = make_holding(session, 3)
        for position in range(3):
            holding.log(position, "Investment", "2024-01-15", 10000)
            holding.valued(position, ("2024-01-31", 10100), ("2024-02-29", 10100))
        portfolio = holding.portfolio.id
        session.commit()

        def work() -> None:
            with Session(portfolio_engine) as own:
                register(own, reserve="always")
                recalculate(own, {portfolio: date(2024, 1, 1)})
                own.commit()

        in_threads(work, 8)
        assert len(holding.fund_irrs()) == 6
        assert holding.portfolio_irrs() == {"2024-01-31": "12.00", "2024-02-29": "5.99"}


def test_inactive_status_is_read_fresh(holding: Holding) -> None:
    """A recalculation reads a fund's status from the database, not from objects that the session
    has loaded.
    """
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100))
    holding.session.execute(
        update(PortfolioFund)
        .where(PortfolioFund.id == holding.funds[1].id)
        .values(status="inactive")
        .execution_options(synchronize_session=False)
    )
    recalculate_since(holding)
    assert holding.portfolio_irrs() == {"2024-01-31": "12.00"}
