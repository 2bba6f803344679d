"""Finds where the rate nearest zero lies, by proof and not by guessing. Pure: numbers only.

Present value is a polynomial in two forms, its faces: for rates of zero and above, in the factor
``1 / (1 + rate)`` with the flows as coefficients; for rates of zero and below, in the factor
``1 + rate`` with the flows reversed. On both faces the factor starts at 1 (the rate is zero) and
falls towards 0, so one search works for both: the largest root in (0, 1].

The search steps down from 1. The sums of a face's positive and of its negative terms both grow with
the factor, so their values at the two ends of a step bound the polynomial and its slope in between.
A step is taken if the bounds leave no room for a root, ends the search if they leave room for one
only, and is shortened otherwise. Sums, not roots, are computed: a batch of lists is searched at
once, and a list of any length safely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# No shorter step is tried, relative to where it starts: what it cannot rule out is a root.
_SHORTEST_STEP = 1e-12

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bracket:
    """Factors with one root between them; for a negative rate, of the reversed flows."""

    low: float
    high: float
    negative: bool


class _Faces:
    """Both faces of each list: row ``i`` for rates from zero up, ``i + count`` from zero down."""

    def __init__(self, rows: Sequence[_Array]) -> None:
        count, width = len(rows), max(map(len, rows))
        coefficients = np.zeros((2 * count, width))
        for index, row in enumerate(rows):
            coefficients[index, : len(row)] = row
            coefficients[count + index, : len(row)] = row[::-1]
        # Positive where the search starts, so that a root lies where the value falls to zero.
        coefficients *= np.where(coefficients.sum(axis=1) < 0, -1.0, 1.0)[:, None]
        positive, negative = np.maximum(coefficients, 0), np.maximum(-coefficients, 0)
        degrees = np.arange(width)
        self._terms = np.stack([positive, negative, positive * degrees, negative * degrees])
        # Cauchy's bound, from the side of zero: no root has a factor below it.
        first, rest = np.abs(coefficients[:, 0]), np.abs(coefficients[:, 1:]).max(axis=1)
        self.lowest = first / (first + rest)
        self.first_steps = np.array([0.25 / len(row) for row in rows] * 2)
        # A value this small, relative to its terms, is zero but for rounding.
        self.rounding = width * float(np.finfo(np.float64).eps)

    def sums(self, rows: NDArray[np.intp], factors: _Array) -> _Array:
        """Return four lines: the positive terms, the negative ones, and the slopes of either."""
        powers = np.empty((len(rows), self._terms.shape[2]))
        powers[:, 0] = 1.0
        powers[:, 1:] = factors[:, None]
        np.multiply.accumulate(powers, axis=1, out=powers)
        result: _Array = np.einsum("trk,rk->tr", self._terms[:, rows], powers)
        result[2:] /= factors
        return result


def nearest_brackets(rows: Sequence[_Array]) -> list[tuple[Bracket, ...]]:
    """Return where each list's rate nearest zero lies: in no bracket, in one, or in either of two.

    Each list starts and ends with a flow that is not zero, and its flows are small enough to be
    added up.
    """
    faces, count = _Faces(rows), len(rows)
    found: list[tuple[Bracket, ...]] = [()] * count
    # No rate further from zero than this is worth finding: one nearer is known.
    limits = np.full(count, np.inf)

    active = np.arange(2 * count)
    high, steps = np.ones(2 * count), faces.first_steps
    at_high = faces.sums(active, high)
    balanced = np.abs(at_high[0] - at_high[1]) <= faces.rounding * (at_high[0] + at_high[1])
    for row in np.flatnonzero(balanced[:count]):
        found[row] = (Bracket(1.0, 1.0, negative=False),)
    active = np.flatnonzero(~np.tile(balanced[:count], 2))
    high, steps, at_high = high[active], steps[active], at_high[:, active]
    while active.size:
        low = np.maximum(high - steps, faces.lowest[active])
        at_low = faces.sums(active, low)
        value_high, value_low = at_high[0] - at_high[1], at_low[0] - at_low[1]
        least_slope, greatest_slope = at_low[2] - at_high[3], at_high[2] - at_low[3]
        bracketed = (value_low <= 0) & (least_slope > 0)
        clear = (value_low > 0) & (
            (least_slope >= 0)
            | (greatest_slope <= 0)
            | (at_low[0] > at_high[1])
            | (value_high > greatest_slope * (high - low))
        )
        bracketed |= ~clear & (steps <= _SHORTEST_STEP * high)
        # A root that the curve touches without crossing can be noticed, but not bracketed.
        touched = clear & (value_low <= faces.rounding * (at_low[0] + at_low[1]))
        bracketed |= touched
        for index in np.flatnonzero(bracketed):
            row, negative = active[index] % count, bool(active[index] >= count)
            top = low[index] if touched[index] else high[index]
            found[row] += (Bracket(float(low[index]), float(top), negative),)
            limits[row] = min(limits[row], _distance(low[index], negative))

        safe = np.divide(
            0.99 * value_high, greatest_slope, out=np.zeros_like(high), where=greatest_slope > 0
        )
        steps = np.where(clear, 2 * steps, np.maximum(steps / 2, safe))
        finished = bracketed | (clear & (low <= faces.lowest[active]))
        high = np.where(clear, low, high)
        at_high = np.where(clear, at_low, at_high)
        finished |= _distance(high, active >= count) >= limits[active % count]
        keep = ~finished
        active, high, steps, at_high = active[keep], high[keep], steps[keep], at_high[:, keep]
    return found


def _distance(factors: _Array, negative: NDArray[np.bool_] | bool) -> _Array:
    """Return how far from zero the rates of these factors are."""
    return np.where(negative, 1 - factors, 1 / factors - 1)
