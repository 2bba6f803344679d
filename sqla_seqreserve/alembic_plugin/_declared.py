"""The declarations in the metadata: sequences, the columns that draw from each, and their owners.

A :class:`~sqlalchemy.Sequence` is declared by being attached to a ``MetaData``, by being the
default of a column, or if its ``next_value()`` is a column's server default.
``Sequence.info["owned_by"]`` may name the owning column (a ``Column`` or ``"table.column"``), or be
``None`` for "never owned"; without it :meth:`DeclaredSequence.owner` decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, MetaData, Sequence, Table
from sqlalchemy.schema import DefaultClause
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import Function, next_value

from .._sqlalchemy.mapping import declared_sequences
from ..errors import ConfigurationError
from ._catalogue import ColumnKey, SequenceKey
from ._options import SequenceOptions


@dataclass(slots=True)
class DeclaredSequence:
    """One sequence of the metadata, and the columns that draw from it."""

    key: SequenceKey
    sequence: Sequence
    default_schema: str | None
    server_users: set[ColumnKey] = field(default_factory=set)
    client_users: set[ColumnKey] = field(default_factory=set)

    @property
    def options(self) -> SequenceOptions:
        return SequenceOptions.declared_by(self.sequence)

    @property
    def users(self) -> set[ColumnKey]:
        return self.server_users | self.client_users

    @property
    def never_owned(self) -> bool:
        return self.sequence.info.get("owned_by", ...) is None

    def owner(self, found: ColumnKey | None, *, exists: bool) -> ColumnKey | None:
        """Return the column that should own the sequence, given the one that owns it in the
        database.

        ``Sequence.info["owned_by"]`` decides if it is set. Without it, a new sequence is owned by
        the only column whose server default draws from it. An existing one keeps its owner, unless
        a column that does not draw from it owns it.
        """
        if "owned_by" in self.sequence.info:
            return self._explicit_owner()
        if exists and (found is None or found in self.users):
            return found
        if len(self.server_users) != 1 or len(self.users) != 1:
            return None
        (user,) = self.server_users
        # PostgreSQL requires a sequence and the table that owns it to be in one schema.
        return user if user.schema == self.key.schema else None

    def _explicit_owner(self) -> ColumnKey | None:
        owner = self.sequence.info["owned_by"]
        if owner is None:
            return None
        if isinstance(owner, Column):
            schema = owner.table.schema
            if self.key.schema != (None if schema == self.default_schema else schema):
                raise ConfigurationError(
                    f"sequence {self.key}: info['owned_by'] is a column of {owner.table.fullname}, "
                    "in another schema; PostgreSQL requires both in one: move the sequence there"
                )
            return ColumnKey(self.key.schema, owner.table.name, owner.name)
        named = ColumnKey.parse(str(owner), self.key.schema)
        if named is None:
            raise ConfigurationError(
                f"sequence {self.key}: info['owned_by'] is {owner!r}; "
                "expected a Column, 'table.column' or None"
            )
        return named


class Declarations:
    """Every sequence that a metadata, or several, declares."""

    def __init__(self, metadata: MetaData | Iterable[MetaData], default_schema: str | None) -> None:
        self.sequences: dict[SequenceKey, DeclaredSequence] = {}
        self.tables: dict[ColumnKey, Table] = {}
        self._default_schema = default_schema
        everything = [metadata] if isinstance(metadata, MetaData) else list(metadata)
        for one in everything:
            for sequence in declared_sequences(one):
                self._declare(sequence)
        tables = [table for one in everything for table in one.sorted_tables]
        for table in tables:
            self._collect(table)
        # A default may be written as text before the table that declares its sequence.
        for table in tables:
            self._collect_text(table)

    def __getitem__(self, key: SequenceKey) -> DeclaredSequence:
        return self.sequences[key]

    def __contains__(self, key: object) -> bool:
        return key in self.sequences

    def __iter__(self) -> Iterator[DeclaredSequence]:
        return iter(self.sequences.values())

    def key_of(self, sequence: Sequence) -> SequenceKey:
        return SequenceKey(self.normal_schema(sequence.schema), str(sequence.name))

    def normal_schema(self, schema: str | None) -> str | None:
        return None if schema == self._default_schema else schema and str(schema)

    def server_sequence(self, column: Column[Any]) -> SequenceKey | None:
        """Return the sequence from which the column's server default draws, also if it is written
        as text.
        """
        sequence = default_sequence(column)
        if sequence is not None:
            return self.key_of(sequence)
        return self._spelled_out(column)

    def client_sequence(self, column: Column[Any]) -> SequenceKey | None:
        """Return the sequence from which SQLAlchemy draws when it inserts."""
        default = column.default
        if isinstance(default, Sequence) and not default.optional:
            return self.key_of(default)
        return None

    def _declare(self, sequence: Sequence) -> DeclaredSequence | None:
        if sequence.optional:
            # SQLAlchemy does not create these on PostgreSQL: the column is SERIAL there.
            return None
        key = self.key_of(sequence)
        declared = DeclaredSequence(key, sequence, self._default_schema)
        return self.sequences.setdefault(key, declared)

    def _collect(self, table: Table) -> None:
        for column in table.columns:
            where = ColumnKey(self.normal_schema(table.schema), table.name, column.name)
            self.tables[where] = table
            if isinstance(column.default, Sequence) and (declared := self._declare(column.default)):
                declared.client_users.add(where)
            sequence = default_sequence(column)
            if sequence is not None and (declared := self._declare(sequence)):
                declared.server_users.add(where)

    def _collect_text(self, table: Table) -> None:
        for column in table.columns:
            if (key := self._spelled_out(column)) is not None and key in self.sequences:
                where = ColumnKey(self.normal_schema(table.schema), table.name, column.name)
                self.sequences[key].server_users.add(where)

    def _spelled_out(self, column: Column[Any]) -> SequenceKey | None:
        default = column.server_default
        if not isinstance(default, DefaultClause):
            return None
        match = _NEXTVAL.fullmatch(_text_of(default.arg))
        parts = _NAME_PARTS.findall(match[1].replace("''", "'")) if match else []
        names = [quoted.replace('""', '"') or plain.lower() for quoted, plain in parts]
        if not 1 <= len(names) <= 2:
            return None
        schema = self.normal_schema(names[0]) if len(names) == 2 else None
        return SequenceKey(schema, names[-1])


def default_sequence(column: Column[Any]) -> Sequence | None:
    """The sequence of a ``server_default=sequence.next_value()``."""
    default = column.server_default
    argument = default.arg if isinstance(default, DefaultClause) else None
    return argument.sequence if isinstance(argument, next_value) else None


def _text_of(expression: Any) -> str:
    """Return the SQL of a ``text()`` or ``func.nextval("name")``, or nothing."""
    if isinstance(expression, TextClause):
        return expression.text
    if isinstance(expression, Function) and expression.name.lower() == "nextval":
        return str(expression.compile(compile_kwargs={"literal_binds": True}))
    return ""


_NEXTVAL = re.compile(r"\s*nextval\(\s*'((?:[^']|'')+)'(?:::regclass)?\s*\)\s*", re.IGNORECASE)
_NAME_PARTS = re.compile(r'"((?:[^"]|"")+)"|([^".\s]+)')
