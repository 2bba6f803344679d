"""Finds which object the database refused, from the fields of PostgreSQL's error, and adds it to
the exception as a note.

COPY reports the line that it was writing (``diag.context``). A foreign key is checked after all
rows are written, and its error names the constraint and the values instead. A check constraint
names the values of the row. The notes are for people.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from .._ids import catalogue
from .._ids.table_names import table_name
from .._rows.suspects import note_suspects, suspects
from .._sql_names import NAME, name_of, table_inserted_into
from .._sqlalchemy.executed import identity_of
from .._sqlalchemy.session import connection_for
from .._sqlalchemy.unit_of_work import State
from .._sqlstate import LOCK_NOT_AVAILABLE, sqlstate
from .._writers.refused_row import error_fields, line_in

_KEY = re.compile(r"\(([^()]*)\)=\((.*)\)")
_ROW = re.compile(r"^Failing row contains \((.*)", re.DOTALL)
_CHANGE = re.compile(
    rf"(?:UPDATE|(?P<delete>DELETE FROM)) (?:{NAME}\.)?(?P<table>{NAME}) (?:SET|WHERE) "
)
"""Matches the beginning of an UPDATE or DELETE that SQLAlchemy makes."""


def note_refusal(error: DBAPIError, table: Table, states: Sequence[State]) -> State | None:
    """Add a note to the error that names the object that it is about, and return that object;
    ``None`` if the error does not show it.
    """
    # A value of the user's that cannot be printed must not hide the server's error.
    position = None
    with suppress(Exception):
        position = _position(error, table, states)
    if position is None:
        return None
    if _is_about_an_object(error):
        with suppress(Exception):
            error.add_note(_described(position, states))
    return states[position]


_ABOUT_OTHERS: Final = frozenset({"08", "25", "40", "53", "57", "58"})
"""Classes of SQLSTATEs of errors that concern the connection, the transaction or the server
(PostgreSQL's documentation, "PostgreSQL Error Codes").
"""


def _is_about_an_object(error: DBAPIError) -> bool:
    """Whether what was refused may be an object."""
    code = sqlstate(error)
    if code is None:
        # The driver's own: a value that it cannot send, or a connection that cannot be used.
        return not isinstance(error, (InterfaceError, OperationalError))
    return code[:2] not in _ABOUT_OTHERS and code != LOCK_NOT_AVAILABLE


def note_each(
    error: DBAPIError, states: Sequence[State], note: Callable[..., object] = note_refusal
) -> None:
    """Add a note to the error that names which of these objects, saved together, it is about.

    :param note: called with the error, a table and the objects, for each table.
    """
    for table in {table: None for state in states for table in state.manager.mapper.tables}:
        if isinstance(table, Table):
            note(error, table, states)


def note_change(error: DBAPIError, uow: Any) -> None:
    """Add a note to the error of an UPDATE or DELETE that names the flush's object that it is
    about, if the error shows it and has no note yet.
    """
    if hasattr(error, "__notes__") or not _is_about_an_object(error):
        return
    with suppress(Exception):
        match = _CHANGE.match(error.statement or "")
        if match is None:
            return
        name = name_of(match["table"]).replace("%%", "%")
        table, states = _changed(uow, name, is_delete=match["delete"] is not None)
        position = _changed_position(error, uow, table, states)
        if position is not None:
            error.add_note(_described(position, states))


def note_values(error: StatementError, uow: Any) -> None:
    """Add a note that names the flush's objects with values that their columns may not take, unless
    the error has a note.
    """
    if hasattr(error, "__notes__"):
        return
    with suppress(Exception):
        for mapper, states in uow.mappers.items():
            attributes = {prop.key: prop.columns[0].type for prop in mapper.column_attrs}
            saved = [state for state in states if uow.states[state] == (False, False)]
            new = sorted((s for s in saved if s.key is None), key=attrgetter("insert_order"))
            old = sorted((s for s in saved if s.key is not None), key=identity_of)
            for some in (new, old):
                found = list(suspects(attributes, [state.dict for state in some]))
                note_suspects(error, f"{mapper.class_.__name__}", found)


def _changed(uow: Any, name: str, *, is_delete: bool) -> tuple[Table, list[State]]:
    """The table of that name, and the objects with a row in it that the flush changes (or deletes),
    in the order of their keys.
    """
    found: dict[State, Table] = {}
    for mapper, states in uow.mappers.items():
        table: Any = next((one for one in mapper.tables if one.name == name), None)
        for state in states if table is not None else ():
            if state.key is not None and uow.states[state] == (is_delete, False):
                found[state] = table
    return next(iter(found.values())), sorted(found, key=identity_of)


def _changed_position(
    error: DBAPIError, uow: Any, table: Table, states: Sequence[State]
) -> int | None:
    if len(states) == 1:
        return 0
    identities = [identity_of(state) for state in states]
    keys = list(table.primary_key)
    sent = error.params
    for name in ("{0.table.name}_{0.key}", "{0.key}"):
        names = [name.format(key) for key in keys]
        if isinstance(sent, Mapping) and sent.keys() >= set(names):
            # The statement was for this object alone.
            return identities.index(tuple(sent[name] for name in names))
    detail = error_fields(error)[1]
    row = _ROW.search(detail)
    if row is None:
        return _row_of_values(detail, table, states)
    written = row[1].removesuffix(").").split(", ")
    texts = [tuple(map(str, identity)) for identity in identities]
    connection = connection_for(uow, states[0].manager.mapper.base_mapper)
    known = catalogue.cached_facts(connection, [table_name(connection, table)])
    if known and list(known[0].columns)[: len(keys)] == [key.name for key in keys]:
        return texts.index(tuple(written[: len(keys)]))
    return _only_holder(written, texts, states)


def _only_holder(
    written: Sequence[str], keys: Sequence[Sequence[str]], states: Sequence[State]
) -> int | None:
    """The only object whose key and integers all occur among the values of a row; ``None`` if there
    is not exactly one. For a row whose order of columns is not known.
    """
    values = Counter(written)
    found = [
        position
        for position, (key, state) in enumerate(zip(keys, states, strict=True))
        if not Counter(key) - values
        and not Counter(str(value) for value in state.dict.values() if type(value) is int) - values
    ]
    return found[0] if len(found) == 1 else None


def _position(error: DBAPIError, table: Table, states: Sequence[State]) -> int | None:
    context, detail = error_fields(error)
    position = line_in(context, table.name)
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
            # The error is about an object of another class that shares the table.
            continue
        if [str(state.dict.get(key)) for key in keys] == values:
            return position
    return None


def _row_of_parameters(error: DBAPIError, table: Table, states: Sequence[State]) -> int | None:
    """The only object of a statement, or the object with the key that the statement sent."""
    statement, sent = error.statement or "", error.params
    if table_inserted_into(statement) != table.name and not statement.startswith("COPY "):
        return None
    if len(states) == 1:
        return 0
    if not isinstance(sent, Mapping):
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
