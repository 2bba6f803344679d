"""Questions about all values of a column at once: does the server take them as they are?

They work on sets and on C functions where they can, for they look at every row.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""Whether every value (None excluded) is one that the column takes as it is."""

_zone: Final = operator.attrgetter("tzinfo")


def exact_types(values: Iterable[Any]) -> set[type]:
    """The types of the values, ``None`` left out."""
    return set(map(type, values)) - {NoneType}


def between(lowest: int, highest: int) -> Check:
    """Whether all are within these bounds."""

    def check(values: Sequence[Any]) -> bool:
        return not values or (lowest <= min(values) and max(values) <= highest)

    return check


def contiguous(values: Sequence[Any]) -> bool:
    """Whether no buffer has gaps between its bytes (a slice with a step), which drivers refuse."""
    # psycopg2's Binary holds what it was given.
    buffers = [getattr(value, "adapted", value) for value in values]
    if set(map(type, buffers)) <= {bytes, bytearray}:
        return True
    try:
        return all(memoryview(buffer).c_contiguous for buffer in buffers)
    except (TypeError, ValueError):
        # No buffer at all, or one that was released: whoever sends it says so.
        return False


def unwrapped_bytes(values: Sequence[Any], wrapper: type, attribute: str) -> Sequence[Any]:
    """The bytes that a driver's wrapper holds; the values as they are where it holds anything else,
    which the driver refuses or reads in its own way.

    :param attribute: of the wrapper, with what it holds.
    """
    if exact_types(values) != {wrapper}:
        return values
    held = [None if value is None else getattr(value, attribute) for value in values]
    return held if exact_types(held) == {bytes} else values


def is_naive(values: Sequence[Any]) -> bool:
    """Whether none has a time zone."""
    return set(map(_zone, values)) <= {None}


def has_offset(values: Sequence[dt.datetime]) -> bool:
    """Whether each has an offset from UTC of whole seconds, which is all that text can say."""
    return _has_offset(values, (dt.timezone, ZoneInfo))


def naive_or_has_offset(values: Sequence[dt.datetime]) -> bool:
    """The same for those that have a time zone."""
    return has_offset([value for value in values if value.tzinfo is not None])


def has_steady_offset(values: Sequence[dt.time]) -> bool:
    """The same for times of day, for which a zone with summer time has no offset."""
    return _has_offset(values, (dt.timezone,))


def _has_offset(values: Sequence[Any], known: tuple[type, ...]) -> bool:
    zones = set(map(_zone, values))
    if None in zones:
        return False
    if all(type(zone) in known for zone in zones):
        # A zone of the database has whole seconds; a fixed one need not.
        return not any(
            zone.utcoffset(None).microseconds for zone in zones if type(zone) is dt.timezone
        )
    offsets = set(map(operator.methodcaller("utcoffset"), values))
    return None not in offsets and not any(offset.microseconds for offset in offsets)


def single_precision(values: Sequence[float]) -> bool:
    """Neither overflowing nor vanishing in four bytes, which the server refuses and ``struct``
    lets pass.
    """
    return all(
        value == 0
        or 1.2e-38 <= abs(value) <= 3.4e38
        or value != value
        or abs(value) == float("inf")
        for value in values
    )


def strings_alone(values: Sequence[Any]) -> bool:
    """Whether dictionaries hold strings and None alone: on other things INSERT fails in a way of
    its own.
    """
    return all(
        exact_types(value) <= {str} and exact_types(value.values()) <= {str}
        for value in values
        if type(value) is dict
    )


def without_scope(values: Sequence[Any]) -> bool:
    """Whether no IPv6 address names an interface: PostgreSQL has no place for it."""
    six = (ipaddress.IPv6Address, ipaddress.IPv6Interface)
    return not any(value.scope_id for value in values if type(value) in six)


def without_signed_nan(values: Sequence[Any]) -> bool:
    """Whether no NaN has a sign or signals: formats differ in what they make of these."""
    return not any(
        value.is_nan() and (value.is_signed() or value.is_snan())
        for value in values
        if type(value) is Decimal and not value.is_finite()
    )


def items_of(values: Iterable[Any]) -> Iterator[Any]:
    """The items of lists at any depth, ``None`` left out.

    :raises ValueError: an item stands beside a list, or lists within one are empty or of
        different lengths.
    """
    for value in values:
        if type(value) is list:
            kinds = set(map(type, value))
            if list in kinds and len(kinds) > 1:
                raise ValueError("an item beside a list")
            if list in kinds and (len(set(map(len, value))) > 1 or not value[0]):
                raise ValueError("lists of different lengths, or of none")
            yield from items_of(value)
        elif value is not None:
            yield value
