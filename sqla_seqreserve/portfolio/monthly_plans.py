"""The activities that clients with a monthly plan would have logged, from real share prices.

Every client has a portfolio, a product, and a fund for each share. On each of a share's dates the
plan buys for the same amount at that date's price, and the portal values the holding so far::

    for plan in client_plans(read_share_prices(), clients=200):
        session.add_all([plan.portfolio, plan.product, *plan.funds])
        session.flush()
        session.add_all(plan.activities())
        session.add_all(plan.valuations())

Nothing is random: the same prices and the same number of clients give the same rows. Plans are made
one at a time, and their activities and valuations anew on each call, so that a progress bar can
follow and no more objects are held than the caller wants. No database is touched.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import inspect

from ..errors import ConfigurationError
from .activity_types import ActivityType
from .base import Base
from .models import (
    ClientProduct,
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundValuation,
)
from .share_prices import SharePrice

__all__ = ["ClientPlan", "PlanMonth", "client_plans", "invest_monthly", "planned_rows"]

_CENT = Decimal("0.01")
_UNIT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class PlanMonth:
    """The purchase of one fund's plan on one date, and the value of the holding then."""

    date: dt.date
    amount: Decimal
    units_held: Decimal
    valuation: Decimal


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client's new portfolio, product and funds, and the history of each fund."""

    portfolio: Portfolio
    product: ClientProduct
    funds: tuple[PortfolioFund, ...]
    histories: tuple[tuple[PlanMonth, ...], ...]

    def activities(self) -> list[HoldingActivityLog]:
        """Return new activities, one for each fund and date, in the order of the dates.

        They refer to funds and product by id once these are flushed, else by relationship.
        """
        product = _reference("product", "product_id", self.product)
        funds = [_reference("portfolio_fund", "portfolio_fund_id", fund) for fund in self.funds]
        return [
            HoldingActivityLog(
                activity_type=ActivityType.REGULAR_INVESTMENT.value,
                activity_timestamp=dt.datetime.combine(month.date, dt.time(), dt.UTC),
                amount=month.amount,
                **product,
                **funds[position],
            )
            for position, month in self._by_date()
        ]

    def valuations(self) -> list[PortfolioFundValuation]:
        """Return new valuations, one for each fund and date, in the order of the dates.

        They refer to the funds by id once these are flushed, else by relationship.
        """
        funds = [_reference("portfolio_fund", "portfolio_fund_id", fund) for fund in self.funds]
        return [
            PortfolioFundValuation(
                valuation_date=month.date, valuation=month.valuation, **funds[position]
            )
            for position, month in self._by_date()
        ]

    def _by_date(self) -> list[tuple[int, PlanMonth]]:
        return sorted(
            (
                (position, month)
                for position, history in enumerate(self.histories)
                for month in history
            ),
            key=lambda entry: (entry[1].date, entry[0]),
        )


def client_plans(prices: Iterable[SharePrice], *, clients: int = 200) -> Iterator[ClientPlan]:
    """Return an iterator over one plan for each client, with one fund for each symbol."""
    _check_clients(clients)
    shares = _by_symbol(prices)
    return (_client_plan(number, shares) for number in range(1, clients + 1))


def planned_rows(prices: Iterable[SharePrice], *, clients: int = 200) -> dict[type[Base], int]:
    """Return how many rows of each model :func:`client_plans` leads to, parents first."""
    _check_clients(clients)
    shares = _by_symbol(prices)
    months = sum(map(len, shares.values()))
    return {
        Portfolio: clients,
        ClientProduct: clients,
        PortfolioFund: clients * len(shares),
        HoldingActivityLog: clients * months,
        PortfolioFundValuation: clients * months,
    }


def invest_monthly(prices: Sequence[SharePrice], amount: Decimal) -> tuple[PlanMonth, ...]:
    """Buy for ``amount`` at each price, and value the holding at that price.

    Units are bought in ten-thousandths, rounded down; valuations are in cents.
    """
    history = []
    units = Decimal(0)
    for share in prices:
        units += (amount / share.price).quantize(_UNIT, ROUND_DOWN)
        valuation = (units * share.price).quantize(_CENT)
        history.append(PlanMonth(share.date, amount, units, valuation))
    return tuple(history)


def _client_plan(number: int, shares: dict[str, tuple[SharePrice, ...]]) -> ClientPlan:
    amounts = [_monthly_amount(number, position) for position in range(len(shares))]
    started = min(prices[0].date for prices in shares.values())
    portfolio = Portfolio(portfolio_name=f"Client {number}", start_date=started)
    product = ClientProduct(
        portfolio=portfolio,
        product_name=f"Monthly plan {number}",
        product_type="GIA",
        start_date=started,
    )
    funds = tuple(
        PortfolioFund(
            portfolio=portfolio,
            fund_name=symbol,
            target_weighting=(100 * amount / sum(amounts)).quantize(_CENT),
            amount_invested=amount * len(prices),
            start_date=prices[0].date,
        )
        for (symbol, prices), amount in zip(shares.items(), amounts, strict=True)
    )
    histories = tuple(
        invest_monthly(prices, amount)
        for prices, amount in zip(shares.values(), amounts, strict=True)
    )
    return ClientPlan(portfolio, product, funds, histories)


def _monthly_amount(client: int, share: int) -> Decimal:
    """Return 25 to 500 dollars, spread over clients and shares."""
    return Decimal(25 * (1 + (client + 4 * share) % 20))


def _by_symbol(prices: Iterable[SharePrice]) -> dict[str, tuple[SharePrice, ...]]:
    ordered = sorted(prices, key=lambda share: (share.symbol, share.date))
    shares = {
        symbol: tuple(group) for symbol, group in groupby(ordered, key=lambda share: share.symbol)
    }
    if not shares:
        raise ConfigurationError("A monthly plan needs share prices, and none were given.")
    return shares


def _check_clients(clients: int) -> None:
    if clients < 1:
        raise ConfigurationError(f"The number of clients must be 1 or more, not {clients!r}.")


def _reference(relationship: str, column: str, parent: Base) -> dict[str, Any]:
    # From the identity: the id of an expired parent would be read from the database.
    identity = inspect(parent).identity
    return {relationship: parent} if identity is None else {column: identity[0]}
