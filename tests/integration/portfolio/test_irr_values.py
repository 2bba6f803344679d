"""Storing rates: new pairs of fund and date are inserted together, existing ones updated, bad rows
reported.
"""

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from fixtures.portfolio_holdings import Holding
from sqlalchemy import Engine, func, select

from sqla_seqreserve import register
from sqla_seqreserve.errors import InvalidRowsError
from sqla_seqreserve.portfolio.irr_values import (
    store_fund_irr_values,
    store_irr_value,
    store_portfolio_irr_values,
)
from sqla_seqreserve.portfolio.models import PortfolioFundIrrValue, PortfolioFundValuation
from sqla_seqreserve.testing import record_statements

JANUARY, FEBRUARY = date(2024, 1, 31), date(2024, 2, 29)


def row(holding: Holding, fund: int, day: date, rate: object) -> dict[str, object]:
    return {"fund_id": holding.funds[fund].id, "date": day, "irr_result": rate}


def test_new_pairs_are_inserted(holding: Holding) -> None:
    """Rates of new pairs are stored, rounded to two places, and returned in the order of
    the rows.
    """
    values = store_fund_irr_values(
        holding.session,
        [row(holding, 1, FEBRUARY, 5.98507), row(holding, 0, JANUARY, Decimal("-3.335"))],
    )
    assert [value.fund_id for value in values] == [holding.funds[1].id, holding.funds[0].id]
    assert all(value.id for value in values)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "-3.34", (1, "2024-02-29"): "5.99"}


def test_existing_pairs_are_updated(holding: Holding) -> None:
    """The rate of an existing pair is updated, beside new ones, and keeps its id and valuation."""
    holding.valued(0, ("2024-01-31", 10))
    valuation = holding.session.scalars(select(PortfolioFundValuation)).one()
    [first] = store_fund_irr_values(
        holding.session,
        [{**row(holding, 0, JANUARY, 1), "fund_valuation_id": valuation.id}],
    )
    key = first.id
    again, new = store_fund_irr_values(
        holding.session, [row(holding, 0, JANUARY, 2), row(holding, 0, FEBRUARY, 3)]
    )
    assert again is first
    assert (again.id, again.fund_valuation_id) == (key, valuation.id)
    assert new.id != key
    assert holding.fund_irrs() == {(0, "2024-01-31"): "2.00", (0, "2024-02-29"): "3.00"}


def test_portfolio_rates(holding: Holding) -> None:
    """Rates of portfolios are inserted and updated like those of funds."""
    store = [{"portfolio_id": holding.portfolio.id, "date": JANUARY, "irr_result": 4}]
    store_portfolio_irr_values(holding.session, store)
    store_portfolio_irr_values(holding.session, [{**store[0], "irr_result": 5}])
    assert holding.portfolio_irrs() == {"2024-01-31": "5.00"}


def test_one_rate(holding: Holding) -> None:
    """store_irr_value inserts or updates one rate, and returns its object."""
    holding.valued(0, ("2024-01-31", 10))
    valuation = holding.session.scalars(select(PortfolioFundValuation)).one()
    fund = holding.funds[0].id
    first = store_irr_value(holding.session, fund, JANUARY, 1.005, valuation.id)
    assert first.fund_valuation_id == valuation.id
    assert store_irr_value(holding.session, fund, JANUARY, 7) is first
    assert holding.fund_irrs() == {(0, "2024-01-31"): "7.00"}


def test_nothing_to_store(holding: Holding) -> None:
    """Storing no rows returns an empty list."""
    assert store_fund_irr_values(holding.session, []) == []


def test_every_bad_row_is_named(holding: Holding) -> None:
    """The error lists all bad rows, and none of the good ones is stored."""
    good = row(holding, 0, JANUARY, 1)
    rows = [
        good,
        {**good, "fund_id": None},
        {**good, "fund_id": 987654},
        {**good, "date": datetime(2024, 1, 1, tzinfo=UTC)},
        {**good, "date": FEBRUARY, "irr_result": float("nan")},
        {**good, "date": date(2024, 3, 1), "irr_result": 1e9},
        {**good, "date": date(2024, 3, 2), "irr_result": "5"},
        {**good, "irr_result": 2},
        {**good, "date": date(2024, 3, 3), "rate": 2},
        {**good, "date": date(2024, 3, 4), "fund_valuation_id": 2.5},
    ]
    with pytest.raises(InvalidRowsError) as caught:
        store_fund_irr_values(holding.session, rows)
    assert [(problem.index, problem.attribute) for problem in caught.value.problems] == [
        (1, "fund_id"),
        (2, "fund_id"),
        (3, "date"),
        (4, "irr_result"),
        (5, "irr_result"),
        (6, "irr_result"),
        (7, "date"),
        (8, "rate"),
        (9, "fund_valuation_id"),
    ]
    assert "same fund_id and date as row 0" in str(caught.value)
    assert holding.fund_irrs() == {}


def test_statements_do_not_grow(portfolio_engine: Engine, holding: Holding) -> None:
    """300 rates and 1,000, half of them stored before, take the same statements; 16 take fewer,
    without a temporary table.
    """
    # Few rows go by COPY too: an INSERT of several rows would be one statement per row.
    register(holding.session, reserve="always", copy_min_rows=1)

    def sent(count: int) -> list[str]:
        days = [date.fromordinal(date(2000, 1, 1).toordinal() + n) for n in range(count)]
        rows = [row(holding, fund, day, 1 + len(days)) for day in days for fund in (0, 1)]
        store_fund_irr_values(holding.session, [{**each, "irr_result": -1} for each in rows[::2]])
        with record_statements(portfolio_engine) as recorded:
            store_fund_irr_values(holding.session, rows)
        return [statement.sql.split(None, 1)[0] for statement in recorded]

    def emptied(count: int) -> list[str]:
        holding.session.query(PortfolioFundIrrValue).delete()
        return sent(count)

    sent(5)
    few, some = emptied(8), emptied(150)
    assert emptied(500) == some
    assert {"CREATE", "COPY"} <= set(some)
    assert not {"CREATE", "COPY", "DROP"} & set(few)
    assert len(few) < len(some)
    count = holding.session.scalar(select(func.count()).select_from(PortfolioFundIrrValue))
    assert count == 1000


def test_sixteen_processes_store_the_same_pairs(holding: Holding) -> None:
    """If sixteen processes store the same pairs at once, none fails, and each pair is stored once,
    with the rate of one of them.
    """
    seed = 4711
    print("seed", seed)
    holding.session.commit()
    engine = holding.session.get_bind()
    assert isinstance(engine, Engine)
    writers = Path(__file__).resolve().parents[2] / "fixtures/rate_writers.py"
    done = subprocess.run(
        [
            sys.executable,
            writers,
            engine.url.render_as_string(hide_password=False),
            "16",
            str(seed),
        ],
        cwd=writers.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(holding.fund_irrs()) == len(holding.funds) * 12
    assert len(holding.portfolio_irrs()) == 12
    rates = holding.session.scalars(select(PortfolioFundIrrValue.irr_result)).all()
    assert len(rates) == len(holding.funds) * 12
    assert all(seed <= rate < seed + 16 + 3 for rate in rates)
