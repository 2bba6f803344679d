"""The ratios of measurements of ``sqla-seqreserve bench``, and the requirements on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sqla_seqreserve.bench import WORKS, Measure, Required, Result


def measured(ours: list[float], plain: list[float], *required: Required) -> Result:
    samples: dict[str, Any] = {"ours": ours, "plain": plain}
    return Result(WORKS[0], Measure("commit", "", required, ours="ours"), samples)


def test_ratios_are_of_medians_and_of_rounds() -> None:
    """The ratio of medians and the median of the rounds' ratios are told apart."""
    result = measured([1.0, 2.0, 30.0], [4.0, 6.0, 30.0])

    assert result.ratio("plain") == 3.0
    assert result.pairwise_ratio("plain") == 3.0
    assert measured([1, 2, 4], [4, 2, 4]).pairwise_ratio("plain") == 1.0
    assert measured([1, 2, 4], [4, 2, 4]).ratio("plain") == 2.0


def test_other_drivers_have_figures_of_their_own() -> None:
    """What is required on psycopg is not required elsewhere, unless a figure says so."""
    here, nowhere = Required("plain", 3.5, others=2.5), Required("plain", 1.15, "at most")

    assert here.on("psycopg") == here
    assert here.on("asyncpg") == replace(here, times=2.5)
    assert nowhere.on("psycopg2") is None


@pytest.mark.parametrize(
    ("required", "reached", "ok"),
    [
        (Required("plain", 2.0), 2.0, True),
        (Required("plain", 2.1), 2.0, False),
        (Required("plain", 0.5, "at most"), 0.5, True),
        (Required("plain", 0.4, "at most"), 0.5, False),
    ],
)
def test_what_is_required_is_compared(required: Required, reached: float, ok: bool) -> None:
    """\"At least\" counts how many times as fast ours is, "at most" its share of the time."""
    [found] = measured([5.0], [10.0], required).requirements

    assert (found.reached, found.ok) == (reached, ok)
