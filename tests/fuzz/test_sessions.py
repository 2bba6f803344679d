"""Random models and random operations of sessions: a registered one does what a plain one does."""

from __future__ import annotations

import os

import pytest
from fixtures.seeds import seed
from fuzz.sessions import Sessions

SECONDS = float(os.environ.get("SQLA_SEQRESERVE_FUZZ_SECONDS", "600"))
SHORT = 10.0


def look(urls: tuple[str, str], seconds: float, seed: int) -> None:
    with Sessions(urls, seed) as sessions:
        report = sessions.run(seconds)
    print(report)
    assert report.cases
    assert any(writer.startswith("copy") for writer in report.writers)
    assert not report.found, str(report)


def test_some_seconds_of_sessions(twin_urls: tuple[str, str]) -> None:
    """After each operation objects are as with plain SQLAlchemy; at the end the rows are."""
    look(twin_urls, SHORT, seed())


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_many_sessions(twin_urls: tuple[str, str]) -> None:
    """The same, until the time is up."""
    look(twin_urls, SECONDS, seed(anew=True))
