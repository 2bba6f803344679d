"""Every type, value by value: COPY stores what INSERT stores.

Each value is flushed alone in a savepoint, by plain SQLAlchemy and by a registered session. The row
as text or the error must be the same, and so must the attribute after the flush and after a reload.
Then all values that plain SQLAlchemy accepted are flushed together.
"""

from __future__ import annotations

import datetime as dt

import pytest
from fixtures.twins import Twins, differences
from fixtures.type_cases import (
    Case,
    Side,
    differences_as_text,
    differences_on,
)
from fixtures.types import arrays, documents, domains, numbers, text, times
from sqlalchemy import (
    DateTime,
    create_engine,
)

CASES = [
    *numbers.CASES,
    *text.CASES,
    *times.CASES,
    *documents.CASES,
    *arrays.CASES,
    *domains.CASES,
]


@pytest.mark.parametrize("item", CASES)
def test_every_value_as_plain_writes_it(twins: Twins, item: Case) -> None:
    """The stored value, the attribute, or the error is plain SQLAlchemy's."""
    plain, ours = Side(twins.plain, item, None), Side(twins.ours, item, {"copy_min_rows": 1})
    found, taken, elsewhere = [], [], []
    with plain.session, ours.session:
        for value in item.values:
            expected, _ = plain.flush([value])
            actual, writers = ours.flush([value])
            found += differences(repr(value), actual, expected)
            if isinstance(expected, list):
                taken.append(value)
                if writers != {"copy"}:
                    elsewhere.append(value)
        # Of one type, because plain SQLAlchemy's INSERT casts values of several types to a common
        # one.
        for type_ in dict.fromkeys(map(type, taken)):
            together = [value for value in taken if type(value) is type_]
            expected, _ = plain.flush(together)
            actual, _ = ours.flush(together)
            found += differences(f"{type_.__name__} together", actual, expected)
    found += differences_as_text(twins, item, taken)
    assert not found, "\n".join(found)
    # Older release lines of SQLAlchemy themselves refuse some values.
    expected = [value for value in item.elsewhere if repr(value) in set(map(repr, taken))]
    assert repr(elsewhere) == repr(taken if item.never_copy else expected)


@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_every_value_as_plain_writes_it_on(twins: Twins, driver: str, item: Case) -> None:
    """On every driver COPY stores what plain SQLAlchemy stores on that driver."""
    found = differences_on(twins, driver, item)
    assert not found, "\n".join(found)


def test_naive_times_are_of_the_connections_time_zone(twins: Twins) -> None:
    """For a column with time zone naive values mean the connection's time zone, as in plain
    SQLAlchemy, also where the clock changes.
    """
    options = {"options": "-c timezone=America/New_York"}
    engines = [
        create_engine(engine.url, connect_args=options) for engine in (twins.plain, twins.ours)
    ]
    changes = [
        dt.datetime(2024, month, day, hour, 30)  # noqa: DTZ001  # naive on purpose
        for month, day in ((3, 10), (11, 3))
        for hour in range(4)
    ]
    item = Case("naive", DateTime(timezone=True), changes)
    plain, ours = Side(engines[0], item, None), Side(engines[1], item, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush(changes)
        actual, writers = ours.flush(changes)
    for engine in engines:
        engine.dispose()
    assert not differences("changes", actual, expected)
    assert expected[2][0] == "2024-03-10 00:30:00-05"
    assert writers == {"copy"}
