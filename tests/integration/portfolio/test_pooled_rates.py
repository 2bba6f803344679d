"""The rate of a portfolio, which pools the flows of its funds."""

from fixtures.portfolio_holdings import Holding, recalculate_since
from sqlalchemy import select

from sqla_seqreserve.portfolio.models import (
    PortfolioIrrValue,
    PortfolioValuation,
)


def test_portfolio_rate_is_of_the_pooled_flows(holding: Holding) -> None:
    """A portfolio's rate is calculated from the flows of all its funds together, not as an
    average.
    """
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(1, "Investment", "2024-01-15", 90000)
    holding.valued(0, ("2024-01-31", 11000))
    holding.valued(1, ("2024-01-31", 90000))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "120.00", (1, "2024-01-31"): "0.00"}
    assert holding.portfolio_irrs() == {"2024-01-31": "12.00"}
    assert holding.portfolio_valuations() == {"2024-01-31": "101000.00"}
    value = holding.session.scalars(select(PortfolioIrrValue)).one()
    valuation = holding.session.scalars(select(PortfolioValuation)).one()
    assert value.portfolio_valuation_id == valuation.id


def test_portfolio_needs_every_active_fund_valued_on_the_date(holding: Holding) -> None:
    """A date on which an active fund has no valuation gives the portfolio no value and no rate."""
    for fund in (0, 1):
        holding.log(fund, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    holding.valued(1, ("2024-01-31", 10100), ("2024-02-28", 10100))
    recalculate_since(holding)
    assert holding.portfolio_irrs() == {"2024-01-31": "12.00"}
    assert holding.portfolio_valuations() == {"2024-01-31": "20200.00"}


def test_inactive_fund_is_not_waited_for_and_still_pooled(holding: Holding) -> None:
    """A closed fund needs no valuation on the date, and its flows and last value count."""
    holding.funds[1].status = "inactive"
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(1, "Investment", "2024-01-15", 10000)
    holding.log(1, "Withdrawal", "2024-02-15", 10000)
    holding.valued(0, ("2024-02-29", 10201))
    holding.valued(1, ("2024-02-15", 0))
    recalculate_since(holding)
    # -20000, 10000, 10201: without the closed fund, it would be -10000, 0, 10201, and 12.00.
    assert holding.portfolio_irrs() == {"2024-02-29": "8.00"}
    assert holding.portfolio_valuations() == {"2024-02-29": "10201.00"}


def test_fund_without_a_valuation_is_left_out_of_the_pool(holding: Holding) -> None:
    """The flows of an inactive fund that was never valued by the date are left out."""
    holding.funds[1].status = "inactive"
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(1, "Investment", "2024-01-15", 5000)
    holding.valued(0, ("2024-01-31", 10100), ("2024-02-29", 10100))
    holding.valued(1, ("2024-02-10", 5000))
    recalculate_since(holding)
    # From its first valuation on it is in the pool: -15000, 0, 15100.
    assert holding.portfolio_irrs() == {"2024-01-31": "12.00", "2024-02-29": "3.99"}


def test_portfolio_without_an_active_fund_has_no_rate(holding: Holding) -> None:
    """A portfolio without an active fund has no rate."""
    for fund in holding.funds:
        fund.status = "inactive"
    holding.log(0, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100))
    recalculate_since(holding)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}
    assert holding.portfolio_irrs() == {}
