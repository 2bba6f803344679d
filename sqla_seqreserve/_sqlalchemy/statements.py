"""The parts of a compiled statement that SQLAlchemy is about to send once for each of many rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Delete, Insert, Table, Update
from sqlalchemy.types import TypeEngine

from .._sql_names import QUOTED_NAME, STRING
from .mapping import casts_each, insert_cast

StatementKind: TypeAlias = Literal["insert", "update", "delete"]

_KINDS: Final[Mapping[type, StatementKind]] = {Insert: "insert", Update: "update", Delete: "delete"}
"""The classes of statements; the ORM executes subclasses of them."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A parameter of a compiled statement.

    :param key: where a row of parameters holds its value.
    :param text: how it stands in the statement, its cast included.
    :param cast: the type that SQLAlchemy casts it to, as SQL; ``None``: the driver says its type.
    :param type: its type in the statement.
    """

    key: str | int
    text: str
    cast: str | None
    type: TypeEngine[Any]


@dataclass(frozen=True, slots=True)
class CompiledMany:
    """A compiled INSERT, UPDATE or DELETE of one table. Only an INSERT may return values.

    :param doubles_percents: whether percent signs are doubled in the text, for a driver that
        inserts values in place of ``%(name)s``.
    """

    kind: StatementKind
    table: Table
    text: str
    placeholders: tuple[Placeholder, ...]
    doubles_percents: bool


def compiled_many(context: Any) -> CompiledMany | None:
    """The statement of an execution context; ``None`` where it is none of these, or an UPDATE or
    DELETE that returns rows, or concerns other tables.
    """
    compiled = context.compiled
    if compiled is None or compiled.compile_state is None:
        return None
    state = compiled.compile_state
    statement = state.statement
    kind = next((kind for cls, kind in _KINDS.items() if isinstance(statement, cls)), None)
    if (
        kind is None
        or not isinstance(statement.table, Table)
        or (compiled.effective_returning and kind != "insert")
        or compiled.ctes
        or getattr(state, "_extra_froms", None)
    ):
        return None
    placeholders = []
    positions = compiled.positiontup
    escaped = compiled.escaped_bind_names or {}
    for bind, name in compiled.bind_names.items():
        if bind.expanding or bind.literal_execute:
            return None
        key: str | int
        if positions is None:
            key = escaped.get(name, name)
            bare = compiled.bindtemplate % {"name": key}
        else:
            number = positions.index(name)
            key, bare = number, f"${number + 1}"
        cast = None
        if casts_each(bind.type, compiled.dialect):
            cast = insert_cast(bind.type, compiled.dialect)
        placeholders.append(Placeholder(key, f"{bare}::{cast}" if cast else bare, cast, bind.type))
    return CompiledMany(
        kind, statement.table, context.statement, tuple(placeholders), positions is None
    )


def is_in_schemas_of(connection: Connection, context: Any) -> bool:
    """Whether a statement has its connection's ``schema_translate_map``, and none of its own."""
    name = "schema_translate_map"
    own: object = context.execution_options.get(name)
    return own == connection.get_execution_options().get(name)


_APART: Final = rf"{STRING}|{QUOTED_NAME}|%%"
"""A pattern for text that may look like a placeholder but is not one: a string, a quoted name, a
percent sign.
"""


def replaced(many: CompiledMany, names: Mapping[str | int, str]) -> str | None:
    """The statement with an expression in place of each placeholder; ``None`` where one is left.

    :param names: by the key of a placeholder.
    """
    expressions = {each.text: names[each.key] for each in many.placeholders}
    # The longer first: $1 is the beginning of $10.
    texts = sorted(expressions, key=len, reverse=True)
    pattern = "|".join([_APART, *map(re.escape, texts)])
    text = re.sub(pattern, lambda found: expressions.get(found[0], found[0]), many.text)
    left = re.sub(_APART, "", text)
    return None if "%(" in left or re.search(r"\$[0-9]", left) else text
