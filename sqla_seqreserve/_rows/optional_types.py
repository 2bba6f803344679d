"""Classes of packages that need not be installed: placeholders for ``issubclass()``, and functions
that turn values of these classes into Python's own.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias

Kinds: TypeAlias = tuple[tuple[type, Callable[[Any], Any] | None], ...]


class _Foreign(type):
    """The metaclass of the placeholders: a subclass of the foreign class counts as a subclass of
    its placeholder.
    """

    def __subclasscheck__(cls, other: type) -> bool:
        module = sys.modules.get(cls.__module__)
        found = getattr(module, cls.__name__, None)
        return isinstance(found, type) and issubclass(other, found)


def _of(module: str, name: str) -> type:
    return _Foreign(name, (), {"__module__": module})


def _date(value: Any) -> dt.date:
    return dt.date(value.year, value.month, value.day)


def _time(value: Any) -> dt.time:
    return dt.time(
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=value.tzinfo,
        fold=value.fold,
    )


def _datetime(value: Any) -> dt.datetime:
    return dt.datetime.combine(_date(value), _time(value))


numpy_integers: Final[Kinds] = ((_of("numpy", "integer"), int),)
numpy_float: Final[Kinds] = ((_of("numpy", "float64"), float),)
numpy_bool: Final[Kinds] = ((_of("numpy", "bool"), bool), (_of("numpy", "bool_"), bool))

_dates: Final[Kinds] = ((_of("pendulum", "Date"), _date),)
"""pendulum's types, which drivers write like Python's own."""
_times: Final[Kinds] = ((_of("pendulum", "Time"), _time),)
_datetimes: Final[Kinds] = ((_of("pendulum", "DateTime"), _datetime),)

OF_TYPES: Final[dict[str, Kinds]] = {
    "date": _dates,
    "time": _times,
    "timestamp": _datetimes,
    "timestamptz": _datetimes,
    "timetz": _times,
}
"""By the name of a type of the database: kinds that every driver accepts."""
