"""Random models and random operations of sessions: a registered one does what a plain one does."""

from __future__ import annotations

import os
import random

import pytest
from fuzz.sessions import Sessions

SECONDS = float(os.environ.get("SQLA_SEQRESERVE_FUZZ_SECONDS", "600"))
SHORT = 20.0


def seed() -> int:
    """A new one, or the one that a report of an earlier run named."""
    return int(os.environ.get("SQLA_SEQRESERVE_FUZZ_SEED", random.randrange(10**6)))


def look(urls: tuple[str, str], seconds: float) -> None:
    with Sessions(urls, seed()) as sessions:
        report = sessions.run(seconds)
    print(report)
    assert report.cases
    assert any(writer.startswith("copy") for writer in report.writers)
    assert not report.found, str(report)


def test_some_seconds_of_sessions(twin_urls: tuple[str, str]) -> None:
    """After each operation objects are as with plain SQLAlchemy; at the end the rows are."""
    look(twin_urls, SHORT)


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_many_sessions(twin_urls: tuple[str, str]) -> None:
    """The same, until the time is up."""
    look(twin_urls, SECONDS)
