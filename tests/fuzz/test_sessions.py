"""Random models and random operations: a registered session gives the results of a plain one."""

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
    """For some seconds of random operations, objects after each operation and rows at the end are
    those of plain SQLAlchemy.
    """
    look(twin_urls, SHORT, seed())


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_many_sessions(twin_urls: tuple[str, str]) -> None:
    """For random operations until the time is up, objects after each operation and rows at the end
    are those of plain SQLAlchemy.
    """
    look(twin_urls, SECONDS, seed(anew=True))
