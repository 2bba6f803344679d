"""Monthly plans turn prices into the same rows every time, without a database."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm.session import make_transient_to_detached

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.portfolio.base import Base
from sqla_seqreserve.portfolio.monthly_plans import (
    ClientPlan,
    PlanMonth,
    client_plans,
    invest_monthly,
    planned_rows,
)
from sqla_seqreserve.portfolio.share_prices import SharePrice

JAN, FEB, MAR = (dt.date(2000, month, 1) for month in (1, 2, 3))
PRICES = [
    SharePrice("OLD", JAN, Decimal(10)),
    SharePrice("OLD", FEB, Decimal(30)),
    SharePrice("OLD", MAR, Decimal(7)),
    SharePrice("NEW", MAR, Decimal("3.33")),
    SharePrice("NEW", FEB, Decimal(4)),
]


def _values(instance: Base) -> dict[str, Any]:
    return {
        attribute.key: attribute.value
        for attribute in inspect(instance).attrs
        if attribute.key not in ("portfolio_fund", "product") and attribute.value is not None
    }


def _all_rows(plan: ClientPlan) -> list[Base]:
    return [plan.portfolio, plan.product, *plan.funds, *plan.activities(), *plan.valuations()]


def test_units_accumulate_and_are_valued_at_each_price() -> None:
    """Units are rounded down to ten-thousandths, and the whole holding is valued in cents."""
    assert invest_monthly(PRICES[:3], Decimal(100)) == (
        PlanMonth(JAN, Decimal(100), Decimal("10.0000"), Decimal("100.00")),
        PlanMonth(FEB, Decimal(100), Decimal("13.3333"), Decimal("400.00")),
        PlanMonth(MAR, Decimal(100), Decimal("27.6190"), Decimal("193.33")),
    )


def test_every_fund_logs_each_of_its_dates_once() -> None:
    """There is one activity and one valuation for each share and date, in the order of the
    dates.
    """
    [plan] = client_plans(PRICES, clients=1)
    assert [fund.fund_name for fund in plan.funds] == ["NEW", "OLD"]
    new, old = plan.funds
    expected = [(JAN, old), (FEB, new), (FEB, old), (MAR, new), (MAR, old)]
    activities, valuations = plan.activities(), plan.valuations()
    assert [(a.activity_timestamp.date(), a.portfolio_fund) for a in activities] == expected
    assert [(v.valuation_date, v.portfolio_fund) for v in valuations] == expected
    assert {a.activity_timestamp.timetz() for a in activities} == {dt.time(tzinfo=dt.UTC)}
    assert {(a.activity_type, a.product) for a in activities} == {
        ("RegularInvestment", plan.product)
    }


def test_a_fund_sums_up_its_plan() -> None:
    """A fund starts at its share's first price and has the sum of what was invested."""
    [plan] = client_plans(PRICES, clients=1)
    for fund, history in zip(plan.funds, plan.histories, strict=True):
        assert fund.start_date == history[0].date
        assert fund.amount_invested == sum(month.amount for month in history)
    assert sum(fund.target_weighting for fund in plan.funds) == 100
    assert plan.portfolio.start_date == JAN
    assert plan.product.portfolio is plan.portfolio


def test_the_rows_are_the_same_every_time_and_in_any_order_of_prices() -> None:
    """Nothing is random, and the order of the prices does not matter."""
    first, second = (
        [[_values(row) for row in plan.activities()] for plan in client_plans(prices, clients=3)]
        for prices in (PRICES, PRICES[::-1])
    )
    assert first == second


def test_clients_differ() -> None:
    """Two clients invest different amounts."""
    one, other = client_plans(PRICES, clients=2)
    assert [a.amount for a in one.activities()] != [a.amount for a in other.activities()]


def test_rows_are_as_many_as_planned() -> None:
    """The counts for a progress bar equal the numbers of objects that follow."""
    rows = [row for plan in client_plans(PRICES, clients=3) for row in _all_rows(plan)]
    assert planned_rows(PRICES, clients=3) == Counter(type(row) for row in rows)


def test_rows_of_flushed_parents_refer_to_them_by_id() -> None:
    """Once the parents have a key, rows carry it and no relationship is set."""
    [plan] = client_plans(PRICES, clients=1)
    for key, parent in enumerate([plan.product, *plan.funds], start=7):
        parent.id = key
        make_transient_to_detached(parent)
    activities, valuations = plan.activities(), plan.valuations()
    assert [a.portfolio_fund_id for a in activities] == [9, 8, 9, 8, 9]
    assert [v.portfolio_fund_id for v in valuations] == [9, 8, 9, 8, 9]
    assert {a.product_id for a in activities} == {7}
    for row in (*activities, *valuations):
        assert "portfolio_fund" in inspect(row).unloaded


@pytest.mark.parametrize("make", [client_plans, planned_rows])
def test_bad_input_is_refused_at_once(make: Any) -> None:
    """Without prices, or without clients, an error is raised before anything is made."""
    with pytest.raises(ConfigurationError, match="none were given"):
        make([])
    with pytest.raises(ConfigurationError, match="1 or more, not 0"):
        make(PRICES, clients=0)
