"""The portfolio on a real Citus cluster, by an option of its migrations."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from alembic import command
from fixtures.cluster import Cluster
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import register
from sqla_seqreserve.health import check_sequences
from sqla_seqreserve.portfolio.models import (
    Base,
    ClientProduct,
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundIrrValue,
)
from sqla_seqreserve.portfolio.schema import migration_config


@pytest.fixture
def portfolio(citus: Cluster) -> Cluster:
    config = migration_config()
    with citus.coordinator.begin() as connection:
        config.attributes |= {"connection": connection, "citus": "distribute"}
        command.upgrade(config, "head")
    return citus


def fund(session: Session) -> PortfolioFund:
    portfolio = Portfolio(portfolio_name="P")
    fund = PortfolioFund(portfolio=portfolio, fund_name="F")
    session.add(fund)
    session.flush()
    return fund


def test_activities_and_rates_are_saved_and_read_from_every_node(portfolio: Cluster) -> None:
    """Rows that one node saves can be read on the others, and the sequences of every node stay
    healthy.
    """
    for number, engine in enumerate(portfolio.engines, 1):
        make = sessionmaker(engine)
        register(make)
        with make() as session:
            owner = fund(session)
            product = ClientProduct(product_name="C", portfolio=owner.portfolio)
            session.add(product)
            session.flush()
            session.add_all(
                HoldingActivityLog(
                    product_id=product.id,
                    portfolio_fund_id=owner.id,
                    activity_type="Investment",
                    activity_timestamp=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
                    amount=Decimal(n),
                )
                for n in range(60)
            )
            session.add(
                PortfolioFundIrrValue(
                    fund_id=owner.id, date=dt.date(2024, 1, 1), irr_result=Decimal("1.5")
                )
            )
            session.commit()
        for other in portfolio.engines:
            with Session(other) as session:
                total = session.scalar(select(func.count()).select_from(HoldingActivityLog))
                ids = session.scalar(select(func.count(HoldingActivityLog.id.distinct())))
                assert (total, ids) == (60 * number, 60 * number)
                assert check_sequences(session, Base).healthy


def test_constraints_hold_across_the_cluster(portfolio: Cluster) -> None:
    """Two rates of one fund and day are refused with an IntegrityError."""
    with Session(portfolio.coordinator) as session:
        owner = fund(session).id
        session.add_all(
            PortfolioFundIrrValue(fund_id=owner, date=dt.date(2024, 1, 1), irr_result=Decimal(1))
            for _ in range(2)
        )
        with pytest.raises(IntegrityError):
            session.commit()


def test_the_way_back_leaves_the_tables_as_they_were(portfolio: Cluster) -> None:
    """A downgrade with the option brings the rows back to the coordinator, and new rows can be
    saved.
    """
    config = migration_config()
    with portfolio.coordinator.begin() as connection:
        config.attributes |= {"connection": connection, "citus": "distribute"}
        command.downgrade(config, "0003")
    with Session(portfolio.coordinator) as session:
        fund(session)
        session.commit()
