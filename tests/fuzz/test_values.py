"""Random values of every type over every column that it may stand over: this package stores what
plain SQLAlchemy stores.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from fixtures.seeds import seed
from fixtures.sides import DRIVERS
from fuzz.harness import Harness

SECONDS = float(os.environ.get("SQLA_SEQRESERVE_FUZZ_SECONDS", "600"))
OWN = 60.0
"""The most seconds for every type over its own column, which takes at most half of that."""

DRIFTED = 12.0
"""Seconds for random pairs of types and mixed batches, as many as fit."""


def look(
    urls: tuple[str, str], seconds: float, seed: int, *, copies: bool = True, **settings: Any
) -> None:
    with Harness(urls, seed).ready() as harness:
        report = harness.run(seconds, **settings)
    print(report)
    assert report.cases
    # If no row of a driver went by COPY, the test shows nothing about that driver.
    assert not copies or all(report.writers[f"copy on {driver}"] for driver in DRIVERS)
    assert not report.differences, str(report)


def test_a_short_look(twin_urls: tuple[str, str]) -> None:
    """For every type over its own column, rows, attributes and errors are plain SQLAlchemy's."""
    look(twin_urls, OWN, seed(), moods=["good"], drifted=False)


def test_a_short_look_at_mixtures(twin_urls: tuple[str, str]) -> None:
    """For values of several types, and for columns of another type than the model's, rows,
    attributes and errors are plain SQLAlchemy's.
    """
    look(twin_urls, DRIFTED, seed(), copies=False, moods=["mixed", "pair"])


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_a_long_look(twin_urls: tuple[str, str]) -> None:
    """For all pairs of types and columns, until the time is up, rows, attributes and errors are
    plain SQLAlchemy's.
    """
    look(twin_urls, SECONDS, seed(anew=True), rounds=1000)
