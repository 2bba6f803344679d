"""The data from which rates of return are calculated, read for whole portfolios at once.

Six queries, however many portfolios, funds, dates and activities there are.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    any_,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from .cash_flows import CashFlow, FlowHistory, flow_sign
from .models import (
    HoldingActivityLog,
    Portfolio,
    PortfolioFund,
    PortfolioFundIrrValue,
    PortfolioFundValuation,
    PortfolioIrrValue,
)


class Valuation(NamedTuple):
    """What a fund was worth on a date."""

    id: int
    date: dt.date
    amount: Decimal


class StoredRate(NamedTuple):
    """A rate as it is stored now."""

    id: int
    irr_result: Decimal
    valuation_id: int | None


@dataclass
class FundHistory:
    """A fund's flows and valuations, the latter by date."""

    id: int
    active: bool
    flows: list[CashFlow] = field(default_factory=list)
    valuations: list[Valuation] = field(default_factory=list)

    def newest(self, date: dt.date) -> Valuation | None:
        """Return the newest valuation on or before the date."""
        position = bisect_right(self.valuations, date, key=attrgetter("date"))
        return self.valuations[position - 1] if position else None

    def monthly_flows(
        self, dates: Sequence[dt.date]
    ) -> Iterator[tuple[dt.date, list[float], Valuation]]:
        """Yield the flows for each of the dates, ascending, that has a valuation by then."""
        history = FlowHistory(self.flows)
        for date in dates:
            valuation = self.newest(date)
            if valuation is not None:
                yield date, history.up_to(date, valuation.amount), valuation


@dataclass
class PortfolioHistory:
    """A portfolio's funds, to be recalculated from a date on."""

    id: int
    since: dt.date
    funds: list[FundHistory] = field(default_factory=list)

    @cached_property
    def dates(self) -> list[dt.date]:
        """The valuation dates of the whole portfolio from the changed date on."""
        days = {valuation.date for fund in self.funds for valuation in fund.valuations}
        return sorted(day for day in days if day >= self.since)

    def totals(self) -> dict[dt.date, Decimal]:
        """Return the portfolio's valuation on each date on which every active fund has one."""
        active = [fund for fund in self.funds if fund.active]
        totals: dict[dt.date, Decimal] = {}
        for date in self.dates:
            newest = [fund.newest(date) for fund in active]
            exact = [each.amount for each in newest if each is not None and each.date == date]
            if active and len(exact) == len(active):
                totals[date] = sum(exact, Decimal(0))
        return totals

    def pooled_flows(self, dates: Sequence[dt.date]) -> Iterator[tuple[dt.date, list[float]]]:
        """Yield the flows of all funds together; a fund without a valuation by then is left out."""
        history = FlowHistory(
            CashFlow(flow.day, flow.amount, fund.valuations[0].date)
            for fund in self.funds
            if fund.valuations
            for flow in fund.flows
        )
        for date in dates:
            newest = (fund.newest(date) for fund in self.funds)
            closing = sum((each.amount for each in newest if each is not None), Decimal(0))
            yield date, history.up_to(date, closing)


@dataclass
class Snapshot:
    """The data read: the histories, and the rates that are stored from the changed dates on.

    :ivar types_without_flow: how many activities have a type that is not known, by the type
    """

    portfolios: list[PortfolioHistory]
    types_without_flow: Counter[str]
    fund_irrs: dict[tuple[int, dt.date], StoredRate]
    portfolio_irrs: dict[tuple[int, dt.date], StoredRate]


def among(column: ColumnElement[int] | Any, ids: Iterable[int]) -> ColumnElement[bool]:
    """Compare with an array, so that the statement is the same for one id and for thousands."""
    return column == any_(literal(list(ids), ARRAY(BigInteger)))


def lock_portfolios(session: Session, ids: Iterable[int]) -> Sequence[int]:
    """Lock the portfolios until the transaction ends, and return the ids of those that exist.

    Whoever writes a portfolio's valuations and rates holds this lock: two writers would otherwise
    both find a pair missing, and both insert it. Inserts of funds, products and activities go on.
    """
    return session.scalars(
        select(Portfolio.id)
        .where(among(Portfolio.id, list(ids)))
        # Always in one order, so that two writers do not deadlock.
        .order_by(Portfolio.id)
        .with_for_update(key_share=True)
    ).all()


def portfolios_of_funds(session: Session, fund_ids: Iterable[int]) -> dict[int, int]:
    """Return the portfolio of each of the funds that exist."""
    funds = select(PortfolioFund.id, PortfolioFund.portfolio_id)
    rows = session.execute(funds.where(among(PortfolioFund.id, fund_ids)))
    return {row.id: row.portfolio_id for row in rows}


def read_histories(session: Session, changes: Mapping[int, dt.date]) -> Snapshot:
    """Lock the portfolios and read their histories, for each from its changed date on."""
    found = lock_portfolios(session, changes)
    portfolios = {key: PortfolioHistory(key, changes[key]) for key in found}
    funds: dict[int, FundHistory] = {}
    since: dict[int, dt.date] = {}
    for fund_id, portfolio_id, status in session.execute(
        select(PortfolioFund.id, PortfolioFund.portfolio_id, PortfolioFund.status)
        .where(among(PortfolioFund.portfolio_id, found))
        .order_by(PortfolioFund.id)
    ):
        funds[fund_id] = FundHistory(fund_id, active=status == "active")
        since[fund_id] = changes[portfolio_id]
        portfolios[portfolio_id].funds.append(funds[fund_id])

    _read_valuations(session, funds)
    return Snapshot(
        portfolios=list(portfolios.values()),
        types_without_flow=_read_flows(session, funds),
        fund_irrs=_read_rates(
            session,
            PortfolioFundIrrValue.fund_id,
            PortfolioFundIrrValue.fund_valuation_id,
            since,
        ),
        portfolio_irrs=_read_rates(
            session,
            PortfolioIrrValue.portfolio_id,
            PortfolioIrrValue.portfolio_valuation_id,
            {key: changes[key] for key in portfolios},
        ),
    )


def _read_valuations(session: Session, funds: Mapping[int, FundHistory]) -> None:
    table = PortfolioFundValuation
    for fund_id, valuation_id, date, amount in session.execute(
        select(table.portfolio_fund_id, table.id, table.valuation_date, table.valuation)
        .where(among(table.portfolio_fund_id, list(funds)))
        .order_by(table.valuation_date)
    ):
        funds[fund_id].valuations.append(Valuation(valuation_id, date, amount))


def _read_flows(session: Session, funds: Mapping[int, FundHistory]) -> Counter[str]:
    table = HoldingActivityLog
    # The day is UTC's, whatever the session's time zone.
    day = cast(func.timezone("UTC", table.activity_timestamp), Date)
    signs: dict[str, int] = {}
    without_flow: Counter[str] = Counter()
    for fund_id, name, date, amount, rows in session.execute(
        select(
            table.portfolio_fund_id,
            table.activity_type,
            day,
            func.sum(table.amount),
            func.count(),
        )
        .where(among(table.portfolio_fund_id, list(funds)))
        .group_by(table.portfolio_fund_id, table.activity_type, day)
    ):
        sign = signs.get(name)
        if sign is None:
            sign = signs[name] = flow_sign(name)
        if not sign:
            without_flow[name] += rows
        funds[fund_id].flows.append(CashFlow(date, (amount or Decimal(0)) * sign))
    return without_flow


def _read_rates(
    session: Session,
    owner: InstrumentedAttribute[int],
    valuation: InstrumentedAttribute[int | None],
    since: Mapping[int, dt.date],
) -> dict[tuple[int, dt.date], StoredRate]:
    """Read the stored rates of owners, each from its own date on."""
    model = owner.class_
    rows = session.execute(
        select(owner, model.date, model.id, model.irr_result, valuation).where(
            among(owner, list(since)), model.date >= min(since.values(), default=dt.date.max)
        )
    )
    return {
        (owner_id, date): StoredRate(*rate)
        for owner_id, date, *rate in rows
        if date >= since[owner_id]
    }
