"""Checks on all values of a column at once: does the server accept them as they are?

They use sets and C functions where possible, because they look at every row.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from .model_types import INTEGERS, MODEL_INTEGERS, RANGES, STRINGS, Modelled

Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""Whether the column accepts every value (None excluded) as it is."""

Accepted: TypeAlias = Mapping[str, tuple[frozenset[type], Check | None]]
"""By the name of a type of the database: the exact types of its values, and their check."""

_zone: Final = operator.attrgetter("tzinfo")


def _zones(values: Sequence[Any]) -> Collection[dt.tzinfo | None]:
    """The time zones of the values. Some classes of zones, such as dateutil's, have no hash."""
    return {id(zone): zone for zone in map(_zone, values)}.values()


def exact_types(values: Iterable[Any]) -> set[type]:
    """Return the types of the values, ``None`` left out."""
    return set(map(type, values)) - {NoneType}


def between(lowest: int, highest: int) -> Check:
    """Return a check that all values are within these bounds."""

    def check(values: Sequence[Any]) -> bool:
        return not values or (lowest <= min(values) and max(values) <= highest)

    return check


INTEGER_BOUNDS: Final[Accepted] = {
    name: (frozenset({int}), between(-limit, limit - 1)) for name, limit in INTEGERS.items()
}


def bounds_of(values: Iterable[Any]) -> list[Any]:
    """Return the bounds of ranges, of any driver. Other values have none, nor have empty ranges."""
    return [
        bound
        for value in values
        if not getattr(value, "isempty", True)
        for bound in (value.lower, value.upper)
        if bound is not None
    ]


def ranges_of(name: str, accepted: Accepted) -> Check:
    """Return a check of ranges by a check of their bounds.

    :param name: the type of the ranges.
    :param accepted: the bounds that each type accepts.
    """
    exact, check = accepted[RANGES[name]]

    def ranges(values: Sequence[Any]) -> bool:
        bounds = bounds_of(values)
        return exact_types(bounds) <= exact and (check is None or check(bounds))

    return ranges


def whole_numbers(modelled: Modelled, stored: str) -> Check:
    """Return a check that integers fit into the model's type and into the stored one."""
    limit = min(INTEGERS[stored], MODEL_INTEGERS[modelled.name])
    return between(-limit, limit - 1)


def items_that(check: Check, modelled: Modelled) -> Check:
    """Return a check of arrays by a check of their items. INSERT cuts longer strings off where the
    model's type has a length.
    """
    is_cut = modelled.size and modelled.column.element_type in STRINGS
    longest = int(modelled.size) if is_cut else None

    def arrays(values: Sequence[Any]) -> bool:
        try:
            items = list(items_of(values))
        except ValueError:
            return False
        return check(items) and (longest is None or max(map(len, items), default=0) <= longest)

    return arrays


def contiguous(values: Sequence[Any]) -> bool:
    """Whether no buffer has gaps between its bytes (a slice with a step), which drivers refuse."""
    # psycopg2's Binary keeps the original object in "adapted".
    buffers = [getattr(value, "adapted", value) for value in values]
    if set(map(type, buffers)) <= {bytes, bytearray}:
        return True
    try:
        return all(memoryview(buffer).c_contiguous for buffer in buffers)
    except (TypeError, ValueError):
        # Not a buffer, or a released one: the code that sends it reports that.
        return False


def unwrapped_bytes(values: Sequence[Any], wrapper: type, attribute: str) -> Sequence[Any]:
    """Return the bytes inside a driver's wrapper; the values as they are if a wrapper holds
    anything else, which the driver refuses or reads in its own way.

    :param attribute: the attribute of the wrapper that holds the content.
    """
    if exact_types(values) != {wrapper}:
        return values
    held = [None if value is None else getattr(value, attribute) for value in values]
    return held if exact_types(held) == {bytes} else values


def is_naive(values: Sequence[Any]) -> bool:
    """Whether none has a time zone."""
    return all(zone is None for zone in _zones(values))


def has_offset(values: Sequence[dt.datetime]) -> bool:
    """Whether each has an offset from UTC of whole seconds; text cannot express others."""
    return _has_offset(values, (dt.timezone, ZoneInfo))


def naive_or_has_offset(values: Sequence[dt.datetime]) -> bool:
    """The same for those that have a time zone; the others are accepted."""
    return has_offset([value for value in values if value.tzinfo is not None])


def has_steady_offset(values: Sequence[dt.time]) -> bool:
    """The same for times of day; a zone with summer time has no offset for these."""
    return _has_offset(values, (dt.timezone,))


def _has_offset(values: Sequence[Any], known: tuple[type, ...]) -> bool:
    zones = _zones(values)
    if any(zone is None for zone in zones):
        return False
    if all(type(zone) in known for zone in zones):
        # A zone of the time zone database has whole seconds; a fixed offset may have fractions.
        return not any(
            zone.utcoffset(None).microseconds for zone in zones if type(zone) is dt.timezone
        )
    offsets = set(map(operator.methodcaller("utcoffset"), values))
    return None not in offsets and not any(offset.microseconds for offset in offsets)


def single_precision(values: Sequence[float]) -> bool:
    """Whether no value overflows or vanishes in four bytes; the server refuses such values,
    ``struct`` does not.
    """
    return all(
        value == 0
        or 1.2e-38 <= abs(value) <= 3.4e38
        or value != value
        or abs(value) == float("inf")
        for value in values
    )


def strings_alone(values: Sequence[Any]) -> bool:
    """Whether dictionaries hold only strings and None: for anything else INSERT fails in a way of
    its own.
    """
    return all(
        exact_types(value) <= {str} and exact_types(value.values()) <= {str}
        for value in values
        if type(value) is dict
    )


def without_scope(values: Sequence[Any]) -> bool:
    """Whether no IPv6 address has a scope (an interface): PostgreSQL cannot store it."""
    six = (ipaddress.IPv6Address, ipaddress.IPv6Interface)
    return not any(value.scope_id for value in values if type(value) in six)


def without_signed_nan(values: Sequence[Any]) -> bool:
    """Whether no NaN is negative or signalling: the formats treat these differently."""
    return not any(
        value.is_nan() and (value.is_signed() or value.is_snan())
        for value in values
        if type(value) is Decimal and not value.is_finite()
    )


def items_of(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the items of lists at any depth, ``None`` left out.

    :raises ValueError: a list mixes items and lists, or contains lists that are empty or of
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
