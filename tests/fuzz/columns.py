"""The columns that a random model may have, with values for them."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.mutable import MutableDict

__all__ = ["KINDS", "Kind"]


class Shade(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Kind:
    """A kind of column, with good and bad values for it."""

    column: Callable[[str], Column[Any]]
    good: tuple[Any, ...] = ()
    bad: tuple[Any, ...] = ()


WHEN: Final = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
KINDS: Final[Mapping[str, Kind]] = {
    "number": Kind(lambda n: Column(n, Integer), (None, 0, 1, 7), (2**40, "x")),
    "small": Kind(lambda n: Column(n, SmallInteger, default=1), (None, 2, True), (70_000,)),
    "checked": Kind(
        lambda n: Column(n, Integer, CheckConstraint(f"{n} >= 0"), default=1), (0, 1), (-1,)
    ),
    "alone": Kind(lambda n: Column(n, Integer, unique=True), (None, *range(100, 160)), (1, 1)),
    "needed": Kind(
        lambda n: Column(n, String(10), nullable=False), ("a", "b\t\\"), (None, "x" * 20)
    ),
    "served": Kind(lambda n: Column(n, Text, server_default="new"), (None, "given")),
    "counted": Kind(
        lambda n: Column(n, Integer, server_default="7", nullable=False), (1, 2), (None,)
    ),
    "made": Kind(lambda n: Column(n, Text, default=lambda: "made"), (None, "given")),
    "calculated": Kind(lambda n: Column(n, Text, default=func.upper("abc")), (None, "given")),
    "touched": Kind(lambda n: Column(n, Integer, onupdate=func.length("abcd")), (1,)),
    "python touched": Kind(lambda n: Column(n, Integer, default=1, onupdate=lambda: 2), (None, 5)),
    "doubled": Kind(lambda n: Column(n, Integer, Computed("1 + 1"))),
    "shade": Kind(lambda n: Column(n, Enum(Shade, native_enum=False)), (None, *Shade), ("GREEN",)),
    "document": Kind(lambda n: Column(n, JSON), (None, {"a": [1]}, [], "x"), ({"a": {1}},)),
    "changing": Kind(
        lambda n: Column(n, MutableDict.as_mutable(JSONB())), (None, {"a": 1}, {}), ([],)
    ),
    "listed": Kind(lambda n: Column(n, ARRAY(Integer)), (None, [], [1, None]), (["x"],)),
    "blob": Kind(lambda n: Column(n, LargeBinary), (None, b"", b"\x00\xff")),
    "flag": Kind(lambda n: Column(n, Boolean, server_default=text("false")), (None, True, False)),
    "price": Kind(
        lambda n: Column(n, Numeric(8, 2)), (None, Decimal("1.50"), 2), (Decimal(10**9),)
    ),
    "moment": Kind(lambda n: Column(n, DateTime(timezone=True)), (None, WHEN)),
}
