"""Brings stored rates of return up to date after a change.

:func:`recalculate` takes, for each portfolio that changed, the earliest date of the change. From
that date on, the stored rates become exactly what activities and valuations say:

- on each valuation date of the portfolio, the rate of every fund with a valuation by then;
- on each date for which every active fund has a valuation, the portfolio's valuation, their sum,
  and the rate of its pooled flows; on all other dates, no rate of the portfolio;
- a rate that cannot be given is in the report's failures, and none is stored in its place.

Reads and writes are sets: the number of statements does not grow with funds, dates or portfolios.
The portfolios' rows are locked against another recalculation until the transaction ends; nothing
else waits for them.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import delete
from sqlalchemy.orm import Session

from ._histories import StoredRate, among, read_histories
from .errors import IrrError
from .irr import annual_irrs, round_irr
from .irr_values import upsert
from .models import PortfolioFundIrrValue, PortfolioIrrValue, PortfolioValuation

__all__ = ["IrrFailure", "RecalculationReport", "recalculate"]

log = logging.getLogger("sqla_seqreserve.portfolio")


@dataclass(frozen=True, slots=True)
class IrrFailure:
    """A rate that could not be given, of a fund; or with ``fund_id`` None, of a portfolio."""

    portfolio_id: int
    fund_id: int | None
    date: dt.date
    error: IrrError

    def __str__(self) -> str:
        owner = f"portfolio {self.portfolio_id}" if self.fund_id is None else f"fund {self.fund_id}"
        return f"{owner} on {self.date}: {self.error}"


@dataclass(frozen=True, slots=True)
class RecalculationReport:
    """What a recalculation did.

    :ivar fund_irrs: rates of funds that were calculated, changed or not
    :ivar portfolio_irrs: the same of portfolios
    :ivar stored: rates that were inserted or updated
    :ivar deleted: rates that were deleted, because the data no longer give such a rate
    :ivar failures: rates that could not be given
    :ivar error: the error that ended the recalculation; all of it was then undone
    """

    fund_irrs: int = 0
    portfolio_irrs: int = 0
    stored: int = 0
    deleted: int = 0
    failures: tuple[IrrFailure, ...] = ()
    error: Exception | None = None

    def plus(self, other: RecalculationReport) -> RecalculationReport:
        """Return both reports as one; if both have an error, the first."""
        return RecalculationReport(
            self.fund_irrs + other.fund_irrs,
            self.portfolio_irrs + other.portfolio_irrs,
            self.stored + other.stored,
            self.deleted + other.deleted,
            self.failures + other.failures,
            self.error or other.error,
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A rate to be calculated: its owner, date and flows, and the valuation that it is based on."""

    portfolio_id: int
    fund_id: int | None
    date: dt.date
    flows: list[float]
    valuation_id: int | None


class _Changes(NamedTuple):
    stored: int
    deleted: int


_Key: TypeAlias = tuple[int, dt.date]
_Rate: TypeAlias = tuple[Decimal, int | None]

_COLUMNS: Final = {
    PortfolioFundIrrValue: ("fund_id", "fund_valuation_id"),
    PortfolioIrrValue: ("portfolio_id", "portfolio_valuation_id"),
}


def recalculate(session: Session, changes: Mapping[int, dt.date]) -> RecalculationReport:
    """Recalculate each portfolio in ``changes`` from its earliest changed date on.

    Flushes, and does not commit.
    """
    if not changes:
        return RecalculationReport()
    session.flush()
    snapshot = read_histories(session, changes)
    for name, rows in sorted(snapshot.types_without_flow.items()):
        log.warning("activity type %r is not known and counts as no flow (%d rows)", name, rows)
    totals = {portfolio.id: portfolio.totals() for portfolio in snapshot.portfolios}
    valuation_ids = _store_totals(session, totals)

    of_funds, fund_failures = _work_out(
        _Wanted(portfolio.id, fund.id, date, flows, valuation.id)
        for portfolio in snapshot.portfolios
        for fund in portfolio.funds
        for date, flows, valuation in fund.monthly_flows(portfolio.dates)
    )
    of_portfolios, portfolio_failures = _work_out(
        _Wanted(portfolio.id, None, date, flows, valuation_ids[portfolio.id, date])
        for portfolio in snapshot.portfolios
        for date, flows in portfolio.pooled_flows(list(totals[portfolio.id]))
    )
    failures = (*fund_failures, *portfolio_failures)
    for failure in failures:
        log.warning("no rate of return for %s", failure)

    fund_changes = _store(session, PortfolioFundIrrValue, of_funds, snapshot.fund_irrs)
    portfolio_changes = _store(session, PortfolioIrrValue, of_portfolios, snapshot.portfolio_irrs)
    report = RecalculationReport(
        fund_irrs=len(of_funds),
        portfolio_irrs=len(of_portfolios),
        stored=fund_changes.stored + portfolio_changes.stored,
        deleted=fund_changes.deleted + portfolio_changes.deleted,
        failures=failures,
    )
    log.info(
        "recalculated portfolios: %d; rates of funds: %d, of portfolios: %d; "
        "stored: %d, deleted: %d, without a rate: %d",
        len(snapshot.portfolios),
        report.fund_irrs,
        report.portfolio_irrs,
        report.stored,
        report.deleted,
        len(failures),
    )
    return report


def _work_out(wanted: Iterable[_Wanted]) -> tuple[dict[_Key, _Rate], list[IrrFailure]]:
    """Return the rates, as they are stored, and the failures."""
    wanted = list(wanted)
    rates: dict[_Key, _Rate] = {}
    failures: list[IrrFailure] = []
    for each, result in zip(wanted, annual_irrs(each.flows for each in wanted), strict=True):
        if isinstance(result, IrrError):
            failures.append(IrrFailure(each.portfolio_id, each.fund_id, each.date, result))
        else:
            owner = each.portfolio_id if each.fund_id is None else each.fund_id
            rates[owner, each.date] = (round_irr(result), each.valuation_id)
    return rates, failures


def _store_totals(
    session: Session, totals: Mapping[int, Mapping[dt.date, Decimal]]
) -> dict[_Key, int]:
    """Store the portfolios' valuations, and return their ids."""
    rows = [
        {"portfolio_id": portfolio_id, "valuation_date": date, "valuation": total}
        for portfolio_id, by_date in totals.items()
        for date, total in by_date.items()
    ]
    stored = upsert(session, PortfolioValuation, ("portfolio_id", "valuation_date"), rows)
    return {
        (valuation.portfolio_id, valuation.valuation_date): valuation.id for valuation in stored
    }


def _store(
    session: Session,
    model: type[PortfolioFundIrrValue] | type[PortfolioIrrValue],
    rates: Mapping[_Key, _Rate],
    stored: Mapping[_Key, StoredRate],
) -> _Changes:
    """Make the stored rates equal the calculated ones; equal rows are not written."""
    owner, valuation = _COLUMNS[model]
    rows = [
        {owner: key[0], "date": key[1], "irr_result": rate, valuation: valuation_id}
        for key, (rate, valuation_id) in rates.items()
        if key not in stored or stored[key][1:] != (rate, valuation_id)
    ]
    upsert(session, model, (owner, "date"), rows)
    gone = [rate.id for key, rate in stored.items() if key not in rates]
    if gone:
        session.execute(delete(model).where(among(model.id, gone)))
    return _Changes(len(rows), len(gone))
