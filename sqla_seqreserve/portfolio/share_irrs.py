"""The rate of return of each share over its whole history, for all clients; and of all shares."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Date, cast, func, select
from sqlalchemy.orm import Session

from .cash_flows import CashFlow, flow_sign, monthly_flows
from .irr import annual_irr
from .models import HoldingActivityLog, PortfolioFund, PortfolioFundValuation

__all__ = ["ShareIrr", "share_irrs"]


@dataclass(frozen=True, slots=True)
class ShareIrr:
    """One share: the sum paid in, its value at the end, and the annual IRR in percent."""

    share: str
    invested: Decimal
    worth: Decimal
    irr: float


def share_irrs(session: Session) -> list[ShareIrr]:
    """Return the rate of each share, by name, and of all of them pooled, last.

    A share is what funds of the same name hold. Three queries, whatever the number of clients. The
    pooled rate is one rate over all the flows, not an average.

    :raises IrrError: the flows of a share have no rate.
    """
    day = cast(func.timezone("UTC", HoldingActivityLog.activity_timestamp), Date)
    flows: dict[str, list[CashFlow]] = defaultdict(list)
    invested: dict[str, Decimal] = defaultdict(Decimal)
    activities = (
        select(
            PortfolioFund.fund_name,
            HoldingActivityLog.activity_type,
            day,
            func.sum(HoldingActivityLog.amount),
        )
        .join(HoldingActivityLog.portfolio_fund)
        .group_by(PortfolioFund.fund_name, HoldingActivityLog.activity_type, day)
    )
    for share, activity_type, date, amount in session.execute(activities):
        sign = flow_sign(activity_type)
        if sign and amount is not None:
            flows[share].append(CashFlow(date, sign * amount))
            invested[share] -= sign * amount
    last = session.scalar(select(func.max(PortfolioFundValuation.valuation_date)))
    if last is None:
        return []
    worth = _worth(session, last)
    rates = [
        _rate(share, invested[share], worth[share], flows[share], last)
        for share in sorted(flows)
        if share in worth
    ]
    pooled = [flow for rate in rates for flow in flows[rate.share]]
    total = _rate(
        "all shares, pooled",
        sum((rate.invested for rate in rates), Decimal()),
        sum((rate.worth for rate in rates), Decimal()),
        pooled,
        last,
    )
    return [*rates, total]


def _rate(
    share: str, invested: Decimal, worth: Decimal, flows: list[CashFlow], last: dt.date
) -> ShareIrr:
    return ShareIrr(share, invested, worth, annual_irr(monthly_flows(flows, last, worth)))


def _worth(session: Session, last: dt.date) -> dict[str, Decimal]:
    """The value of the funds of each name at the newest valuation on or before ``last``."""
    newest = (
        select(PortfolioFundValuation.portfolio_fund_id, PortfolioFundValuation.valuation)
        .where(PortfolioFundValuation.valuation_date <= last)
        .distinct(PortfolioFundValuation.portfolio_fund_id)
        .order_by(
            PortfolioFundValuation.portfolio_fund_id, PortfolioFundValuation.valuation_date.desc()
        )
        .subquery()
    )
    statement = (
        select(PortfolioFund.fund_name, func.sum(newest.c.valuation))
        .join(newest, newest.c.portfolio_fund_id == PortfolioFund.id)
        .group_by(PortfolioFund.fund_name)
    )
    return dict(row._tuple() for row in session.execute(statement))
