"""Every type over every column that it may stand over, by chance: ours stores what stock does."""

from __future__ import annotations

import os
from typing import Any

import pytest
from fixtures.seeds import seed
from fixtures.sides import DRIVERS
from fuzz.harness import Harness

SECONDS = float(os.environ.get("SQLA_SEQRESERVE_FUZZ_SECONDS", "600"))
OWN = 60.0
"""Seconds at the most for every type over its own column, which takes half of that at the most."""

DRIFTED = 12.0
"""Seconds for pairs of types and mixed batches, as many as chance and time give."""


def look(
    urls: tuple[str, str], seconds: float, seed: int, *, copies: bool = True, **settings: Any
) -> None:
    with Harness(urls, seed).ready() as harness:
        report = harness.run(seconds, **settings)
    print(report)
    assert report.cases
    # Had no row gone by COPY on a driver, nothing would have been shown of it.
    assert not copies or all(report.writers[f"copy on {driver}"] for driver in DRIVERS)
    assert not report.differences, str(report)


def test_a_short_look(twin_urls: tuple[str, str]) -> None:
    """Rows, attributes and errors are stock's for every type over the column that is its own."""
    look(twin_urls, OWN, seed(), moods=["good"], drifted=False)


def test_a_short_look_at_mixtures(twin_urls: tuple[str, str]) -> None:
    """They are stock's for values of several types, and for columns of others than the model's."""
    look(twin_urls, DRIFTED, seed(), copies=False, moods=["mixed", "pair"])


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_a_long_look(twin_urls: tuple[str, str]) -> None:
    """The same for all pairs, again and again until the time is up."""
    look(twin_urls, SECONDS, seed(anew=True), rounds=1000)
