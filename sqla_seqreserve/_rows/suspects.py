"""Finds the values for which an INSERT or UPDATE was probably refused, if the error does not name a
row: values that are not of their column's type in the model. The result is only for people to read.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Enum, SmallInteger, types
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.types import TypeEngine

from .division import is_plain
from .plan import ColumnPlan

_MOST_TOLD: Final = 5

_TAKEN: Final[Mapping[type[TypeEngine[Any]], tuple[type, ...]]] = {
    types.Boolean: (bool,),
    types.Integer: (int,),
    types.Float: (float, int, Decimal),
    types.Numeric: (Decimal, int, float),
    types.String: (str,),
    types.LargeBinary: (bytes, bytearray, memoryview),
    types.DateTime: (dt.datetime,),
    types.Date: (dt.date,),
    types.Time: (dt.time,),
    types.Interval: (dt.timedelta,),
}
"""The Python types of the values that columns of a type take; the first one is named."""


class Suspect(NamedTuple):
    """A value that its column may not take.

    :ivar position: the position of its row.
    :ivar problem: its attribute, what was found and what was expected.
    """

    position: int
    problem: str


def suspects(
    types_: Mapping[str, TypeEngine[Any]], rows: Sequence[Mapping[str, Any]], start: int = 0
) -> Iterator[Suspect]:
    """Find the values of rows, attribute key -> value, that their columns may not take.

    :param types_: attribute key -> the type of its column.
    """
    known = [(name, type_, taken) for name, type_ in types_.items() if (taken := _taken_by(type_))]
    for position, row in enumerate(rows, start):
        for name, type_, taken in known:
            value = row.get(name)
            problem = None if value is None else _problem(type_, taken, value)
            if problem is not None:
                yield Suspect(position, f"{name} is {problem}")


@contextmanager
def suspect_rows_noted(
    columns: Iterable[ColumnPlan], rows: Sequence[Mapping[str, Any]], start: int = 0
) -> Iterator[None]:
    """Add such a note to an error of the block.

    :param rows: attribute key -> value.
    :param start: the position of the first among those that the user gave.
    """
    try:
        yield
    except StatementError as error:
        types_ = {one.attribute: one.column.type for one in columns if one.attribute is not None}
        # A value of the user's that cannot be looked at must not hide the error.
        with suppress(Exception):
            note_suspects(error, "row", list(suspects(types_, rows, start)))
        raise


def note_suspects(error: StatementError, label: str, found: Sequence[Suspect]) -> None:
    """Add a note that names suspects to an error that names none, and that may be about a value.

    :param label: what a row is called before its position.
    """
    is_other = isinstance(error, (IntegrityError, OperationalError))
    if is_other or not found or hasattr(error, "__notes__"):
        return
    told = [f"{label} {one.position}: {one.problem}" for one in found[:_MOST_TOLD]]
    if len(found) > _MOST_TOLD:
        told.append(f"and {len(found) - _MOST_TOLD:,} more")
    error.add_note(f"The database may have refused {'; '.join(told)}")


def _taken_by(type_: TypeEngine[Any]) -> tuple[type, ...]:
    """The types of the values that a column of SQLAlchemy's own types takes; empty: not known."""
    if isinstance(type_, Enum):
        return ()
    if isinstance(type_, types.Uuid):
        return (uuid.UUID,) if type_.as_uuid else (str,)
    return next((taken for of, taken in _TAKEN.items() if isinstance(type_, of)), ())


def _problem(type_: TypeEngine[Any], taken: tuple[type, ...], value: object) -> str | None:
    if not is_plain(value):
        return None
    if not isinstance(value, taken) or (isinstance(value, bool) and bool not in taken):
        return f"of type {type(value).__name__}, expected {taken[0].__name__}"
    if isinstance(type_, types.Integer):
        assert isinstance(value, int)
        limit = 1 << _bits(type_) - 1
        return None if -limit <= value < limit else f"beyond {_bits(type_)} bits"
    if isinstance(type_, types.String) and type_.length is not None:
        assert isinstance(value, str)
        size = len(value)
        return None if size <= type_.length else f"{size} characters long, expected {type_.length}"
    return None


def _bits(type_: TypeEngine[Any]) -> int:
    if isinstance(type_, BigInteger):
        return 64
    return 16 if isinstance(type_, SmallInteger) else 32
