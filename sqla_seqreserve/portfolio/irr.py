"""The internal rate of return of monthly flows, in percent a year. Pure: no database in here.

The rate is the monthly one that brings the present value of all flows to zero, times twelve::

    >>> round(annual_irr([-10000, 0, 10100]), 5)
    5.98507
    >>> annual_irrs([[-10000, 10100], [-500, -500]])
    [12.0..., OneSidedFlowsError('...')]

Flows that change sign more than once may have several rates. **The one nearest zero counts**, and
it is found without guessing: :mod:`._brackets` walks away from zero in both directions, over
intervals that it has proved to contain no root, until a bracket contains one root;
:func:`scipy.optimize.brentq` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ._brackets import Bracket, nearest_brackets
from .cash_flows import NEGLIGIBLE
from .errors import (
    IrrError,
    NoRateError,
    OneSidedFlowsError,
    RateOutOfRangeError,
    TooFewFlowsError,
)

__all__ = ["MAX_IRR", "annual_irr", "annual_irrs", "round_irr"]

MAX_IRR = Decimal("99999999.99")
"""The largest rate that its column, numeric(12,4), holds at two places."""

_PERCENT_A_YEAR = 12 * 100
# Few enough rows for the matrices of one batch to stay in the processor's cache.
_BATCH = 256
# The finest that brentq accepts.
_RELATIVE_TOLERANCE = 4 * float(np.finfo(np.float64).eps)

_Vector = NDArray[np.float64]


def annual_irr(monthly_flows: Sequence[float | Decimal]) -> float:
    """Return the rate in percent a year of one net flow a month; index 0 is the first month.

    No flows, or none that is not negligible, return 0.0.

    :raises TooFewFlowsError: fewer than two months have a flow
    :raises OneSidedFlowsError: money only went in, or only came out
    :raises NoRateError: no rate balances the flows, or one of them is not finite
    :raises RateOutOfRangeError: the rate does not fit its column
    """
    [result] = annual_irrs([monthly_flows])
    if isinstance(result, IrrError):
        raise result
    return result


def annual_irrs(many_flows: Iterable[Sequence[float | Decimal]]) -> list[float | IrrError]:
    """Return :func:`annual_irr` of many lists; for a list without a rate, the error."""
    results: list[float | IrrError] = []
    positions: list[int] = []
    pending: list[_Vector] = []
    for flows in many_flows:
        prepared = _prepare(flows)
        if isinstance(prepared, np.ndarray):
            positions.append(len(results))
            pending.append(prepared)
            results.append(0.0)
        else:
            results.append(prepared)
    # By length, because a batch is as wide as its longest list.
    order = sorted(range(len(pending)), key=lambda index: len(pending[index]))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        brackets = nearest_brackets([pending[index] for index in batch])
        for index, candidates in zip(batch, brackets, strict=True):
            results[positions[index]] = _solve(pending[index], candidates)
    return results


def round_irr(percentage: float) -> Decimal:
    """Return the rate as it is stored: two places, halves away from zero.

    :raises RateOutOfRangeError: the rate does not fit its column
    """
    if not isfinite(percentage) or abs(percentage) > MAX_IRR:
        raise _out_of_range(percentage)
    return Decimal(repr(percentage)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _prepare(flows: Sequence[float | Decimal]) -> _Vector | float | IrrError:
    """Return the flows scaled to 1, to be solved; or their result if nothing has to be solved."""
    vector = np.array(flows, dtype=np.float64)
    size = np.abs(vector)
    if not np.isfinite(size).all():
        month = int(np.argmin(np.isfinite(size)))
        return NoRateError(f"the flow of month {month} is {flows[month]}, not a finite number")
    vector[size < float(NEGLIGIBLE)] = 0.0
    months = np.flatnonzero(vector)
    if not len(months):
        return 0.0
    if len(months) == 1:
        return TooFewFlowsError(
            "a rate of return needs flows in two months or more, "
            f"but only month {months[0]} has one"
        )
    missing = "in (negative)" if (vector >= 0).all() else "out (positive)"
    if (vector >= 0).all() or (vector <= 0).all():
        return OneSidedFlowsError(
            "a rate of return needs money going in and coming out, but in none of the "
            f"{len(months)} months with a flow is the net flow money {missing}"
        )
    vector = vector[months[0] : months[-1] + 1]
    # Scaled by a power of two: no sum overflows, and no flow is rounded.
    return np.ldexp(vector, -int(np.frexp(np.abs(vector).max())[1]))


def _solve(flows: _Vector, brackets: Sequence[Bracket]) -> float | IrrError:
    if not brackets:
        return NoRateError("no rate above -100 % a month balances the flows")
    percentage = min((_rate(flows, bracket) for bracket in brackets), key=abs) * _PERCENT_A_YEAR
    if abs(percentage) > MAX_IRR:
        return _out_of_range(percentage)
    return percentage


def _rate(flows: _Vector, bracket: Bracket) -> float:
    coefficients = flows[::-1] if bracket.negative else flows
    powers = np.arange(len(flows))

    def value(factor: float) -> float:
        return float(coefficients @ factor**powers)

    low, high = value(bracket.low), value(bracket.high)
    if (low < 0) != (high < 0):
        factor = float(
            brentq(value, bracket.low, bracket.high, xtol=5e-324, rtol=_RELATIVE_TOLERANCE)
        )
    else:
        # Touched without being crossed, or crossed within rounding of one end.
        factor = bracket.low if abs(low) < abs(high) else bracket.high
    return factor - 1 if bracket.negative else 1 / factor - 1


def _out_of_range(percentage: float) -> RateOutOfRangeError:
    return RateOutOfRangeError(
        f"a rate of {percentage:.6g} % a year does not fit its column: "
        f"at most {MAX_IRR} % can be stored"
    )
