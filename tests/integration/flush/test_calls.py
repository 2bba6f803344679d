"""What a small save costs beside SQLAlchemy's own work, counted in Python calls: near the server it
decides whether a saved round trip is a gain.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Engine, make_url

from sqla_seqreserve._routes import Distance
from sqla_seqreserve.bench.models import Base
from sqla_seqreserve.bench.saves import SAVES
from sqla_seqreserve.bench.sessions import Sessions, open_sessions


def calls(sessions: Sessions, rows: int, classes: int) -> int:
    """The fewest Python calls of several saves, once the distance to the server is known and held.

    It may be on either side of where another way is chosen. On psycopg 30 rows in one message take
    some 950 calls more than plain SQLAlchemy's statements, and 1,060 after other tests, which leave
    listeners behind; SQLAlchemy's own INSERTs take some 220 more. One row with its COMMIT in one
    message takes 264 more, by itself 86.
    """
    saves, counts = SAVES["new"], []
    models = saves.models[:classes]
    for _ in range(30):
        saves.save(sessions, rows, models)
    for _ in range(5):
        counted = 0

        def count(_frame: Any, event: str, _arg: Any) -> None:
            nonlocal counted
            counted += event in {"call", "c_call"}

        with pytest.MonkeyPatch.context() as learnt:
            learnt.setattr(Distance, "is_due", lambda _: False)
            sys.setprofile(count)
            try:
                saves.save(sessions, rows, models)
            finally:
                sys.setprofile(None)
        counts.append(counted)
    return min(counts)


@pytest.mark.parametrize(
    ("driver", "rows", "classes", "most"),
    [
        ("psycopg", 1, 1, 330),
        ("psycopg", 5, 1, 350),
        ("psycopg", 10, 3, 1150),
        ("psycopg2", 1, 1, 60),
        ("psycopg2", 5, 1, 130),
        ("psycopg2", 10, 3, 260),
        ("asyncpg", 1, 1, 60),
        ("asyncpg", 5, 1, 130),
        ("asyncpg", 10, 3, 260),
    ],
)
def test_a_small_save_takes_few_calls_more(
    engine: Engine, database_url: str, driver: str, rows: int, classes: int, most: int
) -> None:
    """A registered session's save takes at most so many calls more than plain SQLAlchemy's."""
    Base.metadata.create_all(engine)
    with ExitStack() as closing:
        url = make_url(database_url)
        plain = calls(open_sessions(url, driver, closing), rows, classes)
        ours = calls(open_sessions(url, driver, closing, {}), rows, classes)
    assert ours <= plain + most, f"{ours} instead of {plain}"
