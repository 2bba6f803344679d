"""Recalculating a large portfolio, compared with the loop that one would write first."""

import datetime as dt
import math
import warnings
from calendar import monthrange
from collections.abc import Callable
from random import Random
from time import perf_counter

import numpy_financial
import pytest
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve.portfolio.cash_flows import CashFlow, flow_sign, monthly_flows
from sqla_seqreserve.portfolio.models import (
    HoldingActivityLog,
    PortfolioFundIrrValue,
    PortfolioFundValuation,
)
from sqla_seqreserve.portfolio.recalculation import RecalculationReport, recalculate

FUNDS, MONTHS, ACTIVITIES = 100, 120, 40_000
TYPES = ["Investment", "RegularInvestment", "RegularInvestment", "FundSwitchIn", "Withdrawal"]

Rates = dict[tuple[int, dt.date], float]


def month_ends() -> list[dt.date]:
    months = [(2014 + month // 12, month % 12 + 1) for month in range(MONTHS)]
    return [dt.date(year, month, monthrange(year, month)[1]) for year, month in months]


def fill(holding: Holding, random: Random) -> None:
    """Log activities over ten years, and value each fund by the money paid in, with a return."""
    session, funds = holding.session, [fund.id for fund in holding.funds]
    rows: list[HoldingActivityLog] = []
    for _ in range(ACTIVITIES):
        day = dt.datetime(2014, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=random.randrange(3650))
        kind = random.choice(TYPES)
        rows.append(
            HoldingActivityLog(
                product_id=holding.product.id,
                portfolio_fund_id=random.choice(funds),
                activity_type=kind,
                activity_timestamp=day,
                # Less money goes out than comes in, as in most plans.
                amount=random.randint(1000, 30_000 if kind == "Withdrawal" else 100_000) / 100,
            )
        )
    session.add_all(rows)
    paid = dict.fromkeys(funds, 0.0)
    rows.sort(key=lambda row: row.activity_timestamp)
    position = 0
    for day in month_ends():
        while position < len(rows) and rows[position].activity_timestamp.date() <= day:
            row = rows[position]
            paid[row.portfolio_fund_id] -= flow_sign(row.activity_type) * float(row.amount or 0)
            position += 1
        session.add_all(
            PortfolioFundValuation(
                portfolio_fund_id=fund,
                valuation_date=day,
                valuation=round(max(amount, 10) * random.uniform(0.95, 1.4), 2),
            )
            for fund, amount in paid.items()
        )
    session.commit()


def naive(session: Session, funds: list[int], on_flows: Callable[[list[float]], float]) -> Rates:
    """Calculate the rate of each fund and date by its definition, with one query after the
    other.
    """
    rates: Rates = {}
    for fund in funds:
        for day in month_ends():
            end = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
            valuation = session.scalars(
                select(PortfolioFundValuation)
                .where(
                    PortfolioFundValuation.portfolio_fund_id == fund,
                    PortfolioFundValuation.valuation_date <= day,
                )
                .order_by(PortfolioFundValuation.valuation_date.desc())
                .limit(1)
            ).one()
            activities = session.execute(
                select(
                    HoldingActivityLog.activity_type,
                    HoldingActivityLog.activity_timestamp,
                    HoldingActivityLog.amount,
                ).where(
                    HoldingActivityLog.portfolio_fund_id == fund,
                    HoldingActivityLog.activity_timestamp < end,
                )
            )
            flows = monthly_flows(
                (
                    CashFlow(moment.astimezone(dt.UTC).date(), amount * flow_sign(kind))
                    for kind, moment, amount in activities
                ),
                day,
                valuation.valuation,
            )
            rate = on_flows(flows) if flows else 0.0
            if math.isfinite(rate):
                rates[fund, day] = rate
                session.add(
                    PortfolioFundIrrValue(
                        fund_id=fund,
                        date=day,
                        irr_result=round(rate, 2),
                        fund_valuation_id=valuation.id,
                    )
                )
                session.flush()
    return rates


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_whole_portfolio_beside_the_naive_loop(portfolio_engine: Engine) -> None:
    """With 100 funds, 120 monthly valuations and 40,000 activities, recalculate() stores the rates
    that the naive loop stores.
    """
    seed = 1
    print(f"\nseed {seed}")
    with Session(portfolio_engine) as session:
        register(session, reserve="always")
        holding = make_holding(session, FUNDS)
        fill(holding, Random(seed))
        funds = [fund.id for fund in holding.funds]
        changes = {holding.portfolio.id: dt.date(2014, 1, 1)}

        def timed() -> tuple[RecalculationReport, float]:
            start = perf_counter()
            report = recalculate(session, changes)
            session.commit()
            return report, perf_counter() - start

        first, insert_seconds = timed()
        second, same_seconds = timed()
        assert second.stored == 0
        # Make every rate wrong, so that it is updated.
        holding.session.execute(
            PortfolioFundIrrValue.__table__.update().values(
                irr_result=PortfolioFundIrrValue.irr_result + 1
            )
        )
        session.commit()
        third, update_seconds = timed()
        assert third.stored == first.fund_irrs
        ours = {
            (fund, day): float(rate)
            for fund, day, rate in session.execute(
                select(
                    PortfolioFundIrrValue.fund_id,
                    PortfolioFundIrrValue.date,
                    PortfolioFundIrrValue.irr_result,
                )
            )
        }
        session.execute(delete(PortfolioFundIrrValue))
        session.commit()

    solving = 0.0

    def solve(flows: list[float]) -> float:
        nonlocal solving
        start = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            rate = float(numpy_financial.irr(flows)) * 1200
        solving += perf_counter() - start
        return rate

    with Session(portfolio_engine) as session:
        start = perf_counter()
        theirs = naive(session, funds, solve)
        session.commit()
        naive_seconds = perf_counter() - start

    print(f"{first.fund_irrs} rates of funds, {first.portfolio_irrs} of the portfolio")
    for name, seconds in (
        ("recalculate, all new", insert_seconds),
        ("recalculate, all changed", update_seconds),
        ("recalculate, nothing changed", same_seconds),
        ("naive loop, rates of funds only", naive_seconds),
        ("  of that in numpy-financial", solving),
    ):
        print(f"{name:<34}{seconds:8.2f} s{naive_seconds / seconds:8.1f} x")
    assert theirs.keys() == ours.keys()
    # The loop rounds a float, and recalculate() rounds its shortest text: they differ by half a
    # hundredth at most.
    assert max(abs(theirs[key] - ours[key]) for key in ours) < 0.006
