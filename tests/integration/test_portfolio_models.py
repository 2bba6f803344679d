"""The portfolio's models in use: their defaults in Python and in the database, and deletions."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from sqlalchemy import Engine, delete, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sqla_seqreserve.portfolio.activity_types import ActivityType
from sqla_seqreserve.portfolio.models import (
    ClientProduct,
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundIrrValue,
    PortfolioFundValuation,
)
from sqla_seqreserve.testing import record_statements

DAY = dt.date(2024, 5, 1)


def test_plain_sql_gets_key_and_timestamps(portfolio_engine: Engine) -> None:
    """An INSERT that gives only the name gets key, status and times from the database's
    defaults.
    """
    with portfolio_engine.begin() as connection:
        row = connection.execute(
            text("INSERT INTO portfolios (portfolio_name) VALUES ('Plain') RETURNING *")
        ).one()
    assert (row.id, row.status, row.end_date) == (1, "active", None)
    assert row.created_at.tzinfo is not None
    assert isinstance(row.start_date, dt.date)


def test_a_flush_reads_back_nothing_but_the_key(portfolio_engine: Engine) -> None:
    """The status and the timestamps of a new object are known without a query."""
    with Session(portfolio_engine) as session:
        portfolio = Portfolio(portfolio_name="Known")
        session.add(portfolio)
        session.flush()
        with record_statements(portfolio_engine) as statements:
            assert portfolio.status == "active"
            assert portfolio.created_at.utcoffset() == dt.timedelta(0)
        assert statements == []


def test_an_update_moves_updated_at(portfolio_engine: Engine) -> None:
    """An UPDATE moves updated_at, and created_at stays."""
    with Session(portfolio_engine, expire_on_commit=False) as session:
        activity = _activity(session)
        created, updated = activity.created_at, activity.updated_at
        activity.amount = Decimal("2.50")
        session.commit()
        session.refresh(activity)
        assert activity.created_at == created
        assert activity.updated_at > updated


def test_a_fund_with_activities_is_not_deleted(portfolio_engine: Engine) -> None:
    """The database refuses to delete a fund with activities, and the session sends no statement for
    its activities.
    """
    with Session(portfolio_engine) as session:
        fund = _activity(session).portfolio_fund
        session.delete(fund)
        with record_statements(portfolio_engine) as statements, pytest.raises(IntegrityError):
            session.flush()
        assert [statement.sql.split()[0] for statement in statements] == ["DELETE"]


@pytest.mark.parametrize("through_the_session", [True, False])
def test_a_rate_of_return_outlives_its_valuation(
    portfolio_engine: Engine, through_the_session: bool
) -> None:
    """If a valuation is deleted, its rate of return stays and loses the reference to it."""
    with Session(portfolio_engine) as session:
        fund = _activity(session).portfolio_fund
        valuation = PortfolioFundValuation(
            portfolio_fund=fund, valuation_date=DAY, valuation=Decimal(10)
        )
        rate = PortfolioFundIrrValue(
            fund=fund, date=DAY, irr_result=Decimal("5.1234"), fund_valuation=valuation
        )
        session.add(rate)
        session.flush()
        if through_the_session:
            session.delete(valuation)
            session.flush()
        else:
            session.execute(delete(PortfolioFundValuation))
        session.expire_all()
        assert session.scalars(select(PortfolioFundIrrValue)).one().fund_valuation_id is None


def _activity(session: Session) -> HoldingActivityLog:
    portfolio = Portfolio(portfolio_name="Parents")
    activity = HoldingActivityLog(
        product=ClientProduct(portfolio=portfolio, product_name="ISA"),
        portfolio_fund=PortfolioFund(portfolio=portfolio, fund_name="World"),
        activity_type=ActivityType.INVESTMENT,
        activity_timestamp=dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
        amount=Decimal("1.25"),
    )
    session.add(activity)
    session.commit()
    return activity
