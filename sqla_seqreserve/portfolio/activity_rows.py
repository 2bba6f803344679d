"""Checks and converts a row of input before it becomes a model. Pure: no database in here.

Each ``parse_*`` function takes one value as it came, from JSON, a CSV file, an editing grid or
Python, and returns it as its column stores it; or raises :exc:`ValueError`, whose message says what
is wrong. :func:`parse_activity` does so for a whole row, and finds all that is wrong with it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, NamedTuple

from sqla_seqreserve.errors import RowProblem

__all__ = [
    "ActivityRow",
    "midnight",
    "parse_activity",
    "parse_amount",
    "parse_id",
    "parse_month",
    "parse_timestamp",
    "parse_type",
]

_CENT = Decimal("0.01")
_LARGEST_AMOUNT = Decimal("999999999999.99")
_LARGEST_ID = 2**63 - 1
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}", re.ASCII)


class ActivityRow(NamedTuple):
    """An activity as its table stores it, without the key; a wrong value is None, too."""

    product_id: int | None
    portfolio_fund_id: int | None
    activity_type: str | None
    activity_timestamp: dt.datetime | None
    amount: Decimal | None


_ATTRIBUTES = frozenset((*ActivityRow._fields, "month"))


def midnight(day: dt.date) -> dt.datetime:
    """Return the beginning of the day, in UTC."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def parse_id(value: object) -> int:
    """Return a key: a whole number from 1 up, or text of one."""
    if _is_missing(value):
        raise ValueError("is missing")
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,19}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_ID:
        raise ValueError(f"expected a whole number from 1 up, found {_shown(value)}")
    return value


def parse_type(value: object) -> str:
    """Return an activity's type: any text but an empty one."""
    if _is_missing(value):
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {_shown(value)}")
    if "\x00" in value:
        raise ValueError("holds a NUL character, which PostgreSQL does not store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"is not text in UTF-8: {_shown(value)}") from None
    return str(value.strip())


def parse_amount(value: object) -> Decimal:
    """Return an amount of money at two places: a number from 0 up, or text of one."""
    if _is_missing(value):
        raise ValueError("is missing")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"expected a number, found {_shown(value)}")
    try:
        # By its shortest text, so that 0.1 is 0.1. Underscores are Python's syntax, not money's.
        amount = Decimal("_" if "_" in str(value) else str(value).strip())
    except InvalidOperation:
        comma = ", with a point before its decimals and no comma" if "," in str(value) else ""
        raise ValueError(f"expected a number{comma}, found {_shown(value)}") from None
    if not amount.is_finite():
        raise ValueError(f"expected a finite number, found {_shown(value)}")
    if amount < 0:
        raise ValueError(f"expected 0 or more, because the type gives the sign, found {amount}")
    if amount > _LARGEST_AMOUNT:
        raise ValueError(f"expected at most {_LARGEST_AMOUNT}, found {_shown(value)}")
    # As PostgreSQL rounds, so that the object holds what the row will.
    return min(amount.quantize(_CENT, ROUND_HALF_UP), _LARGEST_AMOUNT)


def parse_month(value: object) -> dt.date:
    """Return the first day of a month that is written ``YYYY-MM``."""
    if _is_missing(value):
        raise ValueError("is missing")
    if not isinstance(value, str) or not _MONTH.fullmatch(value):
        raise ValueError(f"expected a month as YYYY-MM, found {_shown(value)}")
    try:
        return dt.date.fromisoformat(f"{value}-01")
    except ValueError:
        raise ValueError(f"{value} is not a month of the calendar") from None


def parse_timestamp(value: object) -> dt.datetime:
    """Return a moment: a datetime with its time zone, or the beginning of a date or month in UTC.

    Text is one of these in ISO 8601: ``2024-05``, ``2024-05-17`` or ``2024-05-17T09:30:00+02:00``.
    """
    if _is_missing(value):
        raise ValueError("is missing")
    if isinstance(value, str):
        value = _timestamp_of_text(value.strip())
    if isinstance(value, dt.datetime):
        if value.utcoffset() is None:
            raise ValueError(f"expected a time zone, found {value.isoformat()} without one")
        try:
            value.astimezone(dt.UTC)
        except OverflowError:
            raise ValueError(f"{value.isoformat()} is beyond the years 1 to 9999 in UTC") from None
        return value
    if isinstance(value, dt.date):
        return midnight(value)
    raise ValueError(f"expected a date or a datetime with a time zone, found {_shown(value)}")


def parse_activity(index: int, row: Mapping[str, Any]) -> tuple[ActivityRow, list[RowProblem]]:
    """Return the activity that a row of input describes, and all that is wrong with it."""
    problems: list[RowProblem] = []

    def parsed(attribute: str, parse: Callable[[object], Any]) -> Any:
        try:
            return parse(row.get(attribute))
        except ValueError as problem:
            problems.append(RowProblem(index, attribute, str(problem)))
            return None

    by_month = "month" in row and _is_missing(row.get("activity_timestamp"))
    given = by_month or not _is_missing(row.get("month"))
    month: dt.date | None = parsed("month", parse_month) if given else None
    activity = ActivityRow(
        product_id=parsed("product_id", parse_id),
        portfolio_fund_id=parsed("portfolio_fund_id", parse_id),
        activity_type=parsed("activity_type", parse_type),
        activity_timestamp=(
            parsed("activity_timestamp", parse_timestamp)
            if not by_month
            else midnight(month)
            if month
            else None
        ),
        amount=parsed("amount", lambda value: None if _is_missing(value) else parse_amount(value)),
    )
    moment = activity.activity_timestamp
    # Where the activity took place it may be another month than in UTC.
    if (
        month
        and moment
        and month
        not in {each.date().replace(day=1) for each in (moment, moment.astimezone(dt.UTC))}
    ):
        problem = f"is not the month of activity_timestamp, which is {moment.isoformat()}"
        problems.append(RowProblem(index, "month", problem))
    problems.extend(
        RowProblem(index, str(name), "is not an attribute of an activity")
        for name in row
        if name not in _ATTRIBUTES
    )
    return activity, problems


def _timestamp_of_text(text: str) -> dt.date:
    if _MONTH.fullmatch(text):
        return parse_month(text)
    for parse in (dt.date.fromisoformat, dt.datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    raise ValueError(f"expected a date or a datetime as in ISO 8601, found {_shown(text)}")


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _shown(value: object) -> str:
    """Return the value for a message, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
