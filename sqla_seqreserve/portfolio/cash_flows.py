"""Monthly cash flows of funds, as the rate of return sees them. Pure: no database in here.

The view is the investor's: money going in is negative, money coming out is positive. Stored amounts
have no sign; :func:`flow_sign` gives them theirs, by the first of these rules that fits the
lower-cased type:

=====================================================================  ====
contains "investment"; is taxuplift, productswitchin or fundswitchin   -
contains "withdrawal"; is productswitchout or fundswitchout            +
contains fee, charge or expense                                        +
contains dividend, interest or capital gain                            -
anything else                                                          none
=====================================================================  ====

:class:`FlowHistory` nets the flows by calendar month and closes them with a valuation, for one date
after another. :func:`monthly_flows` does it for one date::

    >>> flows = [CashFlow(date(2024, 1, 5), Decimal(-10000))]
    >>> monthly_flows(flows, date(2024, 2, 29), Decimal(10100))
    [-10000.0, 0.0, 10100.0]
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter

__all__ = ["NEGLIGIBLE", "CashFlow", "FlowHistory", "flow_sign", "monthly_flows"]

NEGLIGIBLE = Decimal("0.01")
"""A month whose net flow is smaller than this counts as a month without a flow."""

_ZERO = Decimal(0)


def flow_sign(activity_type: str) -> int:
    """Return -1 for money paid in, 1 for money paid out, 0 for a type without a flow."""
    name = activity_type.lower()
    if "investment" in name or name in {"taxuplift", "productswitchin", "fundswitchin"}:
        return -1
    if "withdrawal" in name or name in {"productswitchout", "fundswitchout"}:
        return 1
    if any(word in name for word in ("fee", "charge", "expense")):
        return 1
    if any(word in name for word in ("dividend", "interest", "capital gain")):
        return -1
    return 0


@dataclass(frozen=True, slots=True)
class CashFlow:
    """A signed amount on a day.

    ``counts_from`` is the first date whose rate of return takes the flow in; by default, its own
    day. A portfolio's flows use it to leave a fund out until the fund's first valuation.
    """

    day: dt.date
    amount: Decimal
    counts_from: dt.date | None = None

    @property
    def first_date(self) -> dt.date:
        """The first date whose rate of return takes the flow in."""
        if self.counts_from is None or self.counts_from < self.day:
            return self.day
        return self.counts_from


def _month(day: dt.date) -> int:
    """Number the calendar months, so that neighbours differ by one."""
    return day.year * 12 + day.month


class FlowHistory:
    """The flows of a fund or a portfolio, read forward in time.

    :meth:`up_to` answers for one date after another, each no earlier than the one before, and costs
    only what the dates add: a decade of monthly valuations reads the flows once.
    """

    def __init__(self, flows: Iterable[CashFlow]) -> None:
        self._flows = sorted(flows, key=attrgetter("first_date"))
        self._first_month = min((_month(flow.day) for flow in self._flows), default=0)
        self._next = 0
        self._exact: list[Decimal] = []
        self._net: list[float] = []
        self._date = dt.date.min

    def up_to(self, date: dt.date, closing: Decimal) -> list[float]:
        """Return one net flow a month: up to the end of ``date``, then ``closing`` a month later.

        Empty if nothing had happened by then, whatever the valuation.

        :raises ValueError: ``date`` is earlier than one asked for before.
        """
        if date < self._date:
            raise ValueError(
                f"flows are read forward: asked for {date} after {self._date}; "
                "start a new FlowHistory"
            )
        self._date = date
        self._advance(date)
        if not self._next:
            return []
        months = _month(date) - self._first_month + 1
        flows = self._net[:months]
        flows.extend([0.0] * (months - len(flows)))
        if abs(closing) >= NEGLIGIBLE:
            flows.append(float(closing))
        return flows

    def _advance(self, date: dt.date) -> None:
        while self._next < len(self._flows) and self._flows[self._next].first_date <= date:
            flow = self._flows[self._next]
            self._next += 1
            month = _month(flow.day) - self._first_month
            missing = month + 1 - len(self._net)
            if missing > 0:
                self._exact.extend([_ZERO] * missing)
                self._net.extend([0.0] * missing)
            # Summed as decimals: a month that cancels out must be zero, not a rounding error.
            total = self._exact[month] = self._exact[month] + flow.amount
            self._net[month] = 0.0 if abs(total) < NEGLIGIBLE else float(total)


def monthly_flows(flows: Iterable[CashFlow], date: dt.date, closing: Decimal) -> list[float]:
    """Return the net flow of each month for one date; see :meth:`FlowHistory.up_to`."""
    return FlowHistory(flows).up_to(date, closing)
