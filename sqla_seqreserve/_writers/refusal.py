"""Which row, or object, the database refused: found from the fields of PostgreSQL's error, as a
note for the exception.

COPY reports the line that it was at (``diag.context``); a foreign key is checked when all rows are
in, and its error names the constraint and the values instead. Both are for people: nothing depends
on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from .._sqlalchemy.unit_of_work import State

_LINE: Final = re.compile(r"\D*(\d+)")
_KEY: Final = re.compile(r"\(([^()]*)\)=\((.*)\)")


def note_refusal(error: DBAPIError, table: Table, states: Sequence[State]) -> State | None:
    """Note on the error which of the objects it is about, and return that; ``None`` where it does
    not tell.
    """
    # A value of the user's that cannot be printed must not hide what was refused.
    position = None
    with suppress(Exception):
        position = _position(error, table, states)
    if position is None:
        return None
    with suppress(Exception):
        error.add_note(_described(position, states))
    return states[position]


@contextmanager
def refused_row_noted(
    table: str, target: str, numbers: Sequence[int], start: int = 0
) -> Iterator[None]:
    """Note on the error of a COPY which row it is about.

    :param table: the bare name of the table that is written.
    :param target: that of the table which the rows are for.
    :param numbers: the position of each row in what the user gave, counted from ``start``.
    """
    try:
        yield
    except DBAPIError as error:
        line = _line_in(_error_fields(error)[0], table)
        if line is not None and line < len(numbers):
            error.add_note(f"The database refused row {start + numbers[line]} for {target}")
        raise


def _error_fields(error: DBAPIError) -> tuple[str, str]:
    """Context and detail of PostgreSQL's error, by the names that libpq gives them, or of the
    error below the one that SQLAlchemy adapts.
    """
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return diagnosis.context or "", diagnosis.message_detail or ""
    below = getattr(error.orig, "__cause__", None)
    return getattr(below, "context", None) or "", getattr(below, "detail", None) or ""


def _line_in(context: str, table: str) -> int | None:
    """The position, from 0, of the row that a COPY into ``table`` (its bare name) was at, from the
    context of its error; ``None``: not told.
    """
    prefix = f"COPY {table}, "
    if not context.startswith(prefix):
        return None
    match = _LINE.match(context, len(prefix))
    return int(match[1]) - 1 if match else None


def _position(error: DBAPIError, table: Table, states: Sequence[State]) -> int | None:
    context, detail = _error_fields(error)
    position = _line_in(context, table.name)
    if position is None:
        position = _row_of_values(detail, table, states)
    if position is None:
        position = _row_of_parameters(error, table, states)
    return position if position is not None and position < len(states) else None


def _described(position: int, states: Sequence[State]) -> str:
    """A sentence that names the refused object by its position and class."""
    state = states[position]
    key = ", ".join(
        f"{name}={state.dict.get(name)!r}" for name in _key_attributes(state.manager.mapper)
    )
    return (
        f"The database refused object {position} of the {len(states)} {state.class_.__name__} "
        f"objects written together ({key})"
    )


def _row_of_values(detail: str, table: Table, states: Sequence[State]) -> int | None:
    match = _KEY.search(detail)
    if match is None:
        return None
    names, values = match[1].split(", "), match[2].split(", ")
    if len(names) != len(values) or not all(name in table.c for name in names):
        return None
    for position, state in enumerate(states):
        mapper: Mapper[Any] = state.manager.mapper
        try:
            keys = [mapper.get_property_by_column(table.c[name]).key for name in names]
        except UnmappedColumnError:
            # The error is about a sibling.
            continue
        if [str(state.dict.get(key)) for key in keys] == values:
            return position
    return None


def _row_of_parameters(error: DBAPIError, table: Table, states: Sequence[State]) -> int | None:
    """The only object of a statement, or that which has the key which the statement sent."""
    if len(states) == 1:
        return 0
    sent = error.params
    if not isinstance(sent, Mapping) or f"INTO {table.name} " not in (error.statement or ""):
        return None
    key = [str(column.key) for column in table.primary_key]
    if not key or not sent.keys() >= set(key):
        return None
    for position, state in enumerate(states):
        mapper: Mapper[Any] = state.manager.mapper
        held = [state.dict.get(mapper.get_property_by_column(table.c[name]).key) for name in key]
        if held == [sent[name] for name in key]:
            return position
    return None


def _key_attributes(mapper: Mapper[Any]) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]
