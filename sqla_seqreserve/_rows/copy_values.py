"""Converts the values of one column into the form that COPY accepts, where COPY then stores what
INSERT would.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Final, TypeAlias

from sqlalchemy import Column, Connection

from .. import _reasons as why
from .._drivers import driver_of
from .._reasons import Reason
from .codecs import Codec, value_table
from .encoded import made_exact

ColumnTypes: TypeAlias = dict[int, tuple[Sequence[Any], set[type]]]
"""The types of a column's values, by the identity of the list that holds them; with the list
itself, so that it stays alive and its identity cannot be reused.
"""

_UTC: Final = frozenset({"utc", "etc/utc", "uct", "etc/uct", "gmt", "etc/gmt", "zulu", "etc/zulu"})
"""Names of the time zones that equal UTC at all times."""


def for_copy(
    codec: Codec,
    column: Column[Any],
    values: Sequence[Any],
    connection: Connection,
    types: ColumnTypes,
) -> tuple[Sequence[Any], bool] | Reason:
    """Return the values in the form that COPY accepts, and whether they must go as text; or the
    reason why COPY cannot write them as INSERT would.
    """
    name = column.name
    _, found = types.get(id(values)) or (values, set(map(type, values)))
    given, adapted = values, found - {NoneType}
    outcome = made_exact(codec, column, values, found)
    if isinstance(outcome, Reason):
        return outcome
    values, found = outcome
    exact = found - {NoneType}
    is_text = not exact <= codec.binary
    if exact and not codec.accepts(values, found):
        if codec.as_utc and _is_utc(connection):
            try:
                values = [
                    value if type(value) is not datetime else _naive_utc(value) for value in values
                ]
            except (OverflowError, TypeError, ValueError):
                return why.not_in_utc(name)
        elif codec.accepts_as_text(values, found):
            is_text = True
        else:
            return why.cast_or_refused(name)
    table = value_table(connection.dialect)
    assert table is not None
    if codec.inner is not None:
        adapted = adapted | codec.inner(given)
    other = table.adapted_otherwise(connection, codec, adapted)
    if other is not None:
        return why.adapted(name, other.__name__)
    return values, is_text or not codec.binary


def _naive_utc(value: datetime) -> datetime:
    """Convert an aware time as the server does when it assigns it to a column without time zone in
    a session in UTC.

    :raises OverflowError: it is outside of Python's years.
    :raises ValueError: its time zone has no offset, or one that the server refuses in a text.
    """
    if value.tzinfo is None:
        return value
    offset = value.utcoffset()
    if offset is None or offset.microseconds:
        raise ValueError("a time zone without an offset of whole seconds")
    return value.astimezone(UTC).replace(tzinfo=None)


def _is_utc(connection: Connection) -> bool:
    """Whether the session's time zone is UTC; the server reports every change of it."""
    driver = driver_of(connection.dialect)
    if driver is None:
        return False
    zone = driver.setting(connection.connection, "TimeZone")
    return zone is not None and zone.lower() in _UTC
