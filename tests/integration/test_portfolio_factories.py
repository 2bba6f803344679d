"""The portfolio's factories make objects that a session can save, and do not save them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from factory.random import get_random_state, reseed_random, set_random_state
from sqlalchemy import Engine, event, func, inspect, select
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.portfolio import factories
from sqla_seqreserve.portfolio.activity_types import ActivityType
from sqla_seqreserve.portfolio.models import (
    Base,
    ClientProduct,
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundValuation,
)
from sqla_seqreserve.testing import record_statements

SEED = 2104
ALL = [getattr(factories, name) for name in factories.__all__ if name.endswith("Factory")]


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Makes the factories' values the same in every run, in any order of the tests."""
    print(f"factory.random seed: {SEED}")
    before = get_random_state()
    reseed_random(SEED)
    yield
    set_random_state(before)


def test_every_model_has_a_factory() -> None:
    """Each model of the portfolio has exactly one factory."""
    models = sorted(factory._meta.model.__name__ for factory in ALL)
    assert models == sorted(mapper.class_.__name__ for mapper in Base.registry.mappers)


@pytest.mark.parametrize("factory", ALL)
def test_created_objects_can_be_saved(factory: Any, portfolio_engine: Engine) -> None:
    """A batch of each factory, with the parents that it made, can be saved."""
    with Session(portfolio_engine) as session, factories.use_session(session):
        created = factory.create_batch(3)
        assert all(instance in session.new for instance in created)
        session.commit()
        assert session.scalar(select(func.count()).select_from(factory._meta.model)) == 3


@pytest.mark.parametrize("factory", ALL)
def test_creating_neither_flushes_nor_commits(factory: Any, portfolio_engine: Engine) -> None:
    """Factories only add objects to the session: no statement is sent, and nothing is committed."""
    with Session(portfolio_engine) as session, factories.use_session(session):
        event.listen(session, "before_commit", lambda _: pytest.fail("committed"))
        with record_statements(portfolio_engine) as statements:
            factory.create_batch(2)
        assert statements == []


@pytest.mark.parametrize("factory", ALL)
def test_building_needs_no_session(factory: Any) -> None:
    """A built object and its parents belong to no session."""
    assert inspect(factory.build()).transient


def test_creating_needs_a_session(portfolio_engine: Engine) -> None:
    """Outside a use_session block, create raises an error that names use_session."""
    with Session(portfolio_engine) as session, factories.use_session(session):
        pass
    with pytest.raises(ConfigurationError, match="use_session"):
        factories.PortfolioFactory()


def test_nested_sessions_do_not_mix(portfolio_engine: Engine) -> None:
    """Objects are added to the session of the innermost use_session block."""
    outer, inner = Session(portfolio_engine), Session(portfolio_engine)
    with outer, inner, factories.use_session(outer):
        with factories.use_session(inner):
            assert factories.PortfolioFactory() in inner
        assert factories.PortfolioFactory() in outer


def test_the_seed_decides_the_values() -> None:
    """The same seed gives the same values, and another seed gives others."""

    def values(seed: int) -> tuple[Any, ...]:
        reseed_random(seed)
        activity = factories.HoldingActivityLogFactory.build()
        fund = activity.portfolio_fund
        return (
            activity.amount,
            activity.activity_timestamp,
            activity.product.product_name,
            fund.isin_number,
            fund.portfolio.portfolio_name,
        )

    assert values(1) == values(1) != values(2)


def test_values_are_plausible() -> None:
    """Amounts are positive and in cents, activity types are known, times are midnight UTC, and
    ISINs are valid.
    """
    for activity in factories.HoldingActivityLogFactory.build_batch(50):
        assert activity.amount > 0
        assert activity.amount.as_tuple().exponent == -2
        assert activity.activity_type in set(ActivityType)
        assert activity.activity_timestamp.timetz() == dt.time(tzinfo=dt.UTC)
        assert activity.product.portfolio is activity.portfolio_fund.portfolio
        assert _luhn_sum(activity.portfolio_fund.isin_number) % 10 == 0


def test_a_known_isin_passes_the_same_check() -> None:
    """The check of ISINs in these tests accepts a published ISIN, and refuses it with a wrong
    digit.
    """
    assert _luhn_sum("US0378331005") % 10 == 0
    assert _luhn_sum("US0378331006") % 10 != 0


@pytest.mark.parametrize(
    ("factory", "parent", "valuation"),
    [
        (factories.PortfolioFundIrrValueFactory, "fund", "fund_valuation"),
        (factories.PortfolioIrrValueFactory, "portfolio", "portfolio_valuation"),
    ],
)
def test_a_rate_belongs_to_its_valuation(factory: Any, parent: str, valuation: str) -> None:
    """A rate of return and its valuation have the same date and the same parent."""
    rate = factory.build()
    valued = getattr(rate, valuation)
    of = valued.portfolio_fund if parent == "fund" else valued.portfolio
    assert of is getattr(rate, parent)
    assert valued.valuation_date == rate.date
    assert getattr(factory.build(**{valuation: None}), valuation) is None


def test_a_batch_can_share_its_parent(portfolio_engine: Engine) -> None:
    """A batch uses a parent that is given, and the dates of its valuations differ."""
    with Session(portfolio_engine) as session, factories.use_session(session):
        fund = factories.PortfolioFundFactory()
        factories.PortfolioFundValuationFactory.create_batch(24, portfolio_fund=fund)
        session.commit()
        assert [
            session.scalar(select(func.count()).select_from(model))
            for model in (Portfolio, PortfolioFund, PortfolioFundValuation)
        ] == [1, 1, 24]


def test_a_registered_session_saves_them_in_bulk(portfolio_engine: Engine) -> None:
    """A registered session writes a batch and its parents by COPY in one flush."""
    with Session(portfolio_engine) as session, factories.use_session(session):
        reports: list[FlushReport] = []
        register(session, copy_min_rows=1).on_flush(reports.append)
        factories.HoldingActivityLogFactory.create_batch(50)
        session.commit()
    [report] = reports
    assert {
        (entry.model, entry.rows, entry.reserved, entry.writer) for entry in report.entries
    } == {
        (model, 50, 50, "copy")
        for model in (Portfolio, PortfolioFund, ClientProduct, HoldingActivityLog)
    }


def _luhn_sum(isin: str) -> int:
    digits = [int(digit) for digit in "".join(str(int(character, 36)) for character in isin)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return sum(digits[-1::-2]) + sum(doubled)
