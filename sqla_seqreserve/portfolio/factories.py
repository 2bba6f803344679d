"""Factories (factory-boy) for every model of the portfolio, with values that a portal might hold.

::

    with use_session(session):
        fund = PortfolioFundFactory()
        HoldingActivityLogFactory.create_batch(50, portfolio_fund=fund)
    session.commit()

An object is added to the session, along with the parents that it needs and was not given. Nothing
is flushed and nothing committed, so that one flush saves all of them, in bulk if the session is
registered. ``build()`` needs no session. For an ``AsyncSession``, give its ``sync_session``.

Random values come from ``factory.random``: ``factory.random.reseed_random("seed")`` makes them
repeatable. The dates of valuations and rates of return count up month by month, which keeps them
unique for each fund and portfolio.
"""

# factory-boy says that it is typed, and leaves its declarations unannotated.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from factory.alchemy import SQLAlchemyModelFactory
from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.faker import Faker
from factory.fuzzy import FuzzyChoice, FuzzyDate, FuzzyDecimal
from factory.random import randgen
from sqlalchemy.orm import Session, scoped_session

from ..errors import ConfigurationError
from .activity_types import ActivityType
from .models import (
    ClientProduct,
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundIrrValue,
    PortfolioFundValuation,
    PortfolioIrrValue,
    PortfolioValuation,
)

__all__ = [
    "ClientProductFactory",
    "HoldingActivityLogFactory",
    "PortfolioFactory",
    "PortfolioFundFactory",
    "PortfolioFundIrrValueFactory",
    "PortfolioFundValuationFactory",
    "PortfolioIrrValueFactory",
    "PortfolioValuationFactory",
    "use_session",
]

_session: ContextVar[Session | scoped_session[Any] | None] = ContextVar("_session", default=None)

_FIRST_DAY = dt.date(2015, 1, 1)
_LAST_DAY = dt.date(2024, 12, 31)
_FUND_NAMES = (
    "Corporate Bond",
    "Emerging Markets",
    "Global Equity Index",
    "Index-Linked Gilt",
    "Property Securities",
    "Short Duration Credit",
    "Smaller Companies",
    "UK Equity Income",
)
_PROVIDERS = ("Albion", "Bridgewell", "Castlegate", "Dunmore", "Eastbrook")
_PRODUCT_TYPES = ("GIA", "ISA", "Offshore Bond", "Onshore Bond", "Pension")


@contextmanager
def use_session(session: Session | scoped_session[Any]) -> Iterator[None]:
    """Add what the factories create to ``session``, within the block and this thread or task."""
    token = _session.set(session)
    try:
        yield
    finally:
        _session.reset(token)


def _current_session() -> Session | scoped_session[Any]:
    session = _session.get()
    if session is None:
        raise ConfigurationError(
            "The factories have no session to add objects to. Create objects inside "
            "`with use_session(session):`, or use build() for objects without one."
        )
    return session


def _nth_month(number: int) -> dt.date:
    return dt.date(2000 + number // 12, 1 + number % 12, 1)


def _isin() -> str:
    """Return a British ISIN with a right check digit."""
    body = "GB00B" + "".join(randgen.choices("0123456789BCDFGHJKLMNPQRSTVWXYZ", k=6))
    digits = "".join(str(int(character, 36)) for character in body)
    total = sum(
        sum(divmod(int(digit) * (2 - position % 2), 10))
        for position, digit in enumerate(reversed(digits))
    )
    return f"{body}{-total % 10}"


class _ModelFactory(SQLAlchemyModelFactory):
    class Meta:
        abstract = True
        sqlalchemy_session_factory = _current_session


class PortfolioFactory(_ModelFactory):
    """An active portfolio that bears a client's name."""

    class Meta:
        model = Portfolio

    portfolio_name = Faker("name", locale="en_GB")
    status = "active"
    start_date = FuzzyDate(_FIRST_DAY, _LAST_DAY)


class PortfolioFundFactory(_ModelFactory):
    """An active fund of a new portfolio, since the portfolio's start."""

    class Meta:
        model = PortfolioFund

    portfolio = SubFactory(PortfolioFactory)
    fund_name = FuzzyChoice(_FUND_NAMES)
    isin_number = LazyFunction(_isin)
    target_weighting = FuzzyDecimal(5, 40, precision=2)
    amount_invested = FuzzyDecimal(1_000, 250_000, precision=2)
    start_date = SelfAttribute("portfolio.start_date")
    status = "active"


class ClientProductFactory(_ModelFactory):
    """An active product around a new portfolio, since the portfolio's start."""

    class Meta:
        model = ClientProduct

    class Params:
        provider = FuzzyChoice(_PROVIDERS)

    portfolio = SubFactory(PortfolioFactory)
    product_type = FuzzyChoice(_PRODUCT_TYPES)
    product_name = LazyAttribute(lambda product: f"{product.provider} {product.product_type}")
    start_date = SelfAttribute("portfolio.start_date")
    status = "active"


class HoldingActivityLogFactory(_ModelFactory):
    """An activity on a new fund, in a new product around the fund's portfolio, at midnight UTC."""

    class Meta:
        model = HoldingActivityLog

    class Params:
        day = FuzzyDate(_FIRST_DAY, _LAST_DAY)

    portfolio_fund = SubFactory(PortfolioFundFactory)
    product = SubFactory(
        ClientProductFactory, portfolio=SelfAttribute("..portfolio_fund.portfolio")
    )
    activity_type = FuzzyChoice([activity_type.value for activity_type in ActivityType])
    activity_timestamp = LazyAttribute(
        lambda activity: dt.datetime.combine(activity.day, dt.time(), dt.UTC)
    )
    amount = FuzzyDecimal(10, 25_000, precision=2)


class PortfolioFundValuationFactory(_ModelFactory):
    """The valuation of a new fund on the first day of a month."""

    class Meta:
        model = PortfolioFundValuation

    portfolio_fund = SubFactory(PortfolioFundFactory)
    valuation_date = Sequence(_nth_month)
    valuation = FuzzyDecimal(1_000, 250_000, precision=2)


class PortfolioValuationFactory(_ModelFactory):
    """The valuation of a new portfolio on the first day of a month."""

    class Meta:
        model = PortfolioValuation

    portfolio = SubFactory(PortfolioFactory)
    valuation_date = Sequence(_nth_month)
    valuation = FuzzyDecimal(10_000, 2_500_000, precision=2)


class PortfolioFundIrrValueFactory(_ModelFactory):
    """A rate of return of a new fund, on the date of a new valuation of that fund."""

    class Meta:
        model = PortfolioFundIrrValue

    fund = SubFactory(PortfolioFundFactory)
    date = Sequence(_nth_month)
    fund_valuation = SubFactory(
        PortfolioFundValuationFactory,
        portfolio_fund=SelfAttribute("..fund"),
        valuation_date=SelfAttribute("..date"),
    )
    irr_result = FuzzyDecimal(-20, 30, precision=2)


class PortfolioIrrValueFactory(_ModelFactory):
    """A rate of return of a new portfolio, on the date of a new valuation of that portfolio."""

    class Meta:
        model = PortfolioIrrValue

    portfolio = SubFactory(PortfolioFactory)
    date = Sequence(_nth_month)
    portfolio_valuation = SubFactory(
        PortfolioValuationFactory,
        portfolio=SelfAttribute("..portfolio"),
        valuation_date=SelfAttribute("..date"),
    )
    irr_result = FuzzyDecimal(-20, 30, precision=2)
