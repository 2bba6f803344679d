"""The portal's tables as SQLAlchemy models: holdings of clients, their activities, their returns.

::

    Portfolio ──< PortfolioFund ──< HoldingActivityLog >── ClientProduct >── Portfolio
        │              ├──< PortfolioFundValuation ──< PortfolioFundIrrValue
        │              └──< PortfolioFundIrrValue
        ├──< PortfolioValuation ──< PortfolioIrrValue
        └──< PortfolioIrrValue

The database refuses to delete a parent that still has children. The one exception is a valuation:
its rate of return stays, without the reference to it.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base, Money, Percentage, Rate, UpdatedAtMixin, utc_today
from .owned_sequence import own_sequences

__all__ = [
    "Base",
    "ClientProduct",
    "HoldingActivityLog",
    "Portfolio",
    "PortfolioFund",
    "PortfolioFundIrrValue",
    "PortfolioFundValuation",
    "PortfolioIrrValue",
    "PortfolioValuation",
]


class Portfolio(Base):
    """A client's holding: the funds of one plan together."""

    __tablename__ = "portfolios"

    portfolio_name: Mapped[str]
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    start_date: Mapped[dt.date] = mapped_column(
        default=utc_today, server_default=func.current_date()
    )
    end_date: Mapped[dt.date | None]

    funds: Mapped[list[PortfolioFund]] = relationship(
        back_populates="portfolio", passive_deletes="all"
    )
    products: Mapped[list[ClientProduct]] = relationship(
        back_populates="portfolio", passive_deletes="all"
    )
    valuations: Mapped[list[PortfolioValuation]] = relationship(
        back_populates="portfolio", passive_deletes="all"
    )
    irr_values: Mapped[list[PortfolioIrrValue]] = relationship(
        back_populates="portfolio", passive_deletes="all"
    )


class PortfolioFund(Base):
    """One fund in one portfolio."""

    __tablename__ = "portfolio_funds"

    portfolio_id: Mapped[int] = mapped_column(ForeignKey("portfolios.id"))
    fund_name: Mapped[str]
    isin_number: Mapped[str | None]
    target_weighting: Mapped[Percentage | None]
    amount_invested: Mapped[Money] = mapped_column(default=0, server_default="0")
    start_date: Mapped[dt.date] = mapped_column(
        default=utc_today, server_default=func.current_date()
    )
    end_date: Mapped[dt.date | None]
    status: Mapped[str] = mapped_column(default="active", server_default="active")

    portfolio: Mapped[Portfolio] = relationship(back_populates="funds")
    activities: Mapped[list[HoldingActivityLog]] = relationship(
        back_populates="portfolio_fund", passive_deletes="all"
    )
    valuations: Mapped[list[PortfolioFundValuation]] = relationship(
        back_populates="portfolio_fund", passive_deletes="all"
    )
    irr_values: Mapped[list[PortfolioFundIrrValue]] = relationship(
        back_populates="fund", passive_deletes="all"
    )


class ClientProduct(Base):
    """The wrapper through which a client holds a portfolio: an ISA, a pension, a bond."""

    __tablename__ = "client_products"

    product_name: Mapped[str]
    product_type: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    start_date: Mapped[dt.date] = mapped_column(
        default=utc_today, server_default=func.current_date()
    )
    end_date: Mapped[dt.date | None]
    portfolio_id: Mapped[int] = mapped_column(ForeignKey("portfolios.id"))

    portfolio: Mapped[Portfolio] = relationship(back_populates="products")
    activities: Mapped[list[HoldingActivityLog]] = relationship(
        back_populates="product", passive_deletes="all"
    )


class PortfolioFundValuation(Base):
    """The value of one fund on one date."""

    __tablename__ = "portfolio_fund_valuations"
    __table_args__ = (UniqueConstraint("portfolio_fund_id", "valuation_date"),)

    portfolio_fund_id: Mapped[int] = mapped_column(ForeignKey("portfolio_funds.id"))
    valuation_date: Mapped[dt.date]
    valuation: Mapped[Money]

    portfolio_fund: Mapped[PortfolioFund] = relationship(back_populates="valuations")
    irr_values: Mapped[list[PortfolioFundIrrValue]] = relationship(
        back_populates="fund_valuation", passive_deletes=True
    )


class PortfolioValuation(Base):
    """The value of a whole portfolio on one date."""

    __tablename__ = "portfolio_valuations"
    __table_args__ = (UniqueConstraint("portfolio_id", "valuation_date"),)

    portfolio_id: Mapped[int] = mapped_column(ForeignKey("portfolios.id"))
    valuation_date: Mapped[dt.date]
    valuation: Mapped[Money]

    portfolio: Mapped[Portfolio] = relationship(back_populates="valuations")
    irr_values: Mapped[list[PortfolioIrrValue]] = relationship(
        back_populates="portfolio_valuation", passive_deletes=True
    )


class HoldingActivityLog(UpdatedAtMixin, Base):
    """One activity on one fund; its type is normally an :class:`.ActivityType`."""

    __tablename__ = "holding_activity_log"

    product_id: Mapped[int] = mapped_column(ForeignKey("client_products.id"), index=True)
    portfolio_fund_id: Mapped[int] = mapped_column(ForeignKey("portfolio_funds.id"), index=True)
    activity_type: Mapped[str]
    activity_timestamp: Mapped[dt.datetime] = mapped_column(index=True)
    amount: Mapped[Money | None]

    product: Mapped[ClientProduct] = relationship(back_populates="activities")
    portfolio_fund: Mapped[PortfolioFund] = relationship(back_populates="activities")


class PortfolioFundIrrValue(UpdatedAtMixin, Base):
    """The internal rate of return of one fund up to one date, in percent a year."""

    __tablename__ = "portfolio_fund_irr_values"
    __table_args__ = (UniqueConstraint("fund_id", "date"),)

    fund_id: Mapped[int] = mapped_column(ForeignKey("portfolio_funds.id"))
    date: Mapped[dt.date]
    irr_result: Mapped[Rate]
    fund_valuation_id: Mapped[int | None] = mapped_column(
        ForeignKey("portfolio_fund_valuations.id", ondelete="SET NULL")
    )

    fund: Mapped[PortfolioFund] = relationship(back_populates="irr_values")
    fund_valuation: Mapped[PortfolioFundValuation | None] = relationship(
        back_populates="irr_values"
    )


class PortfolioIrrValue(UpdatedAtMixin, Base):
    """The internal rate of return of a whole portfolio up to one date, in percent a year."""

    __tablename__ = "portfolio_irr_values"
    __table_args__ = (UniqueConstraint("portfolio_id", "date"),)

    portfolio_id: Mapped[int] = mapped_column(ForeignKey("portfolios.id"))
    date: Mapped[dt.date]
    irr_result: Mapped[Rate]
    portfolio_valuation_id: Mapped[int | None] = mapped_column(
        ForeignKey("portfolio_valuations.id", ondelete="SET NULL")
    )

    portfolio: Mapped[Portfolio] = relationship(back_populates="irr_values")
    portfolio_valuation: Mapped[PortfolioValuation | None] = relationship(
        back_populates="irr_values"
    )


own_sequences(Base.metadata)
