"""Finds which key columns of a class the database generates: first from the mapping alone, then as
the database has it.

The order of the look-up is part of the contract: a ``Sequence`` on the column; else the identity or
the sequence that the column owns; else the ``nextval`` of the column's default. A default that is
more than a ``nextval`` is evaluated itself (:mod:`sqla_seqreserve._ids.server_defaults`), and takes
precedence over a sequence that the column owns, because INSERT evaluates the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Connection,
    Enum,
    Integer,
    Sequence,
    SmallInteger,
    String,
    Table,
    Uuid,
    inspect,
)
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine

from .. import _reasons as why
from .._database import known_of
from .._reasons import Reason
from .._sqlalchemy.mapping import kept_with, result_processor
from ..errors import SequenceExhaustedError, SequenceNotFoundError, UnmappedClassError
from . import catalogue
from .server_defaults import DefaultFacts
from .table_names import qualified_name, stored_name, table_name

_LIMITS = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedKey:
    """The key column of a class that the database generates, with the ``others`` if it generates
    several; or the reason why it generates none.
    """

    mapper: Mapper[Any]
    table: Table | None = None
    column: Column[Any] | None = None
    attribute: str = ""
    declared: Sequence | None = None
    reason: Reason | None = None
    others: tuple[GeneratedKey, ...] = ()

    @property
    def parts(self) -> tuple[GeneratedKey, ...]:
        """All generated columns, in the key's order; empty if there is none."""
        return (self, *self.others) if self.column is not None else ()


@dataclass(frozen=True, slots=True, eq=False)
class KeySequence:
    """A generated key column with the sequence that numbers it in one database, or the default that
    is evaluated for it, and the ``others`` of the same key; or the reason why nothing is reserved.
    """

    key: GeneratedKey
    facts: catalogue.TableFacts | None = None
    sequence: catalogue.SequenceFacts | None = None
    minimum: int = 0
    maximum: int = 0
    model_maximum: int = 0
    always_identity: bool = False
    to_python: Callable[[Any], Any] | None = None
    reason: Reason | None = None
    default: DefaultFacts | None = None
    others: tuple[KeySequence, ...] = ()

    @property
    def is_reservable(self) -> bool:
        """Whether values can be had before the rows exist."""
        return self.sequence is not None or self.default is not None

    @property
    def parts(self) -> tuple[KeySequence, ...]:
        """All generated columns, in the key's order; empty if nothing is reserved."""
        return (self, *self.others) if self.is_reservable else ()

    @property
    def refuses_keys(self) -> bool:
        """Whether one of the columns is ``GENERATED ALWAYS``, so that INSERT accepts no key."""
        if not self.is_reservable:
            return False
        if not self.others:
            return self.always_identity
        return any(part.always_identity for part in self.parts)

    @property
    def origin(self) -> str:
        """The sequence or the default, as SQL."""
        if self.default is not None:
            return self.default.expression
        return self.sequence.name if self.sequence is not None else "?"

    @property
    def place(self) -> object:
        """Equal for classes that share a sequence, or a default of one table."""
        if self.default is None:
            return self.origin
        assert self.facts is not None
        assert self.key.column is not None
        return self.facts.name, self.key.column.name

    @property
    def is_missing(self) -> bool:
        """Whether the database has no such table."""
        return self.key.column is not None and self.facts is None


def mapper_of(model: object) -> Mapper[Any]:
    """Return the mapper of a mapped class.

    :raises UnmappedClassError: ``model`` is not a class that SQLAlchemy maps.
    """
    try:
        mapper = inspect(model) if isinstance(model, type) else None
    except NoInspectionAvailable:
        mapper = None
    if not isinstance(mapper, Mapper):
        found = model.__qualname__ if isinstance(model, type) else repr(model)
        raise UnmappedClassError(
            f"{found} is not a mapped class: give a class that SQLAlchemy maps to a table"
        )
    return mapper


def generated_key(mapper: Mapper[Any]) -> GeneratedKey:
    """Return the generated key of ``mapper``, from the mapping alone; computed once."""
    kept = kept_with(mapper)
    key: GeneratedKey | None = kept.get(GeneratedKey)
    if key is None:
        key = kept[GeneratedKey] = _find_generated_key(mapper)
    return key


def lacks_key(mapper: Mapper[Any], states: Iterable[Any]) -> bool:
    """Whether the database generates a key for one of these objects, judged from the mapping
    alone.
    """
    # A plain loop for speed: every flush runs it.
    for part in generated_key(mapper).parts:
        for state in states:
            if state.dict.get(part.attribute) is None:
                return True
    return False


def _find_generated_key(mapper: Mapper[Any]) -> GeneratedKey:
    columns = [column for column in mapper.primary_key if may_be_generated(column)]
    if not columns:
        return GeneratedKey(mapper, reason=why.NO_GENERATED_KEY)
    tables = {column.table for column in columns}
    if len(tables) > 1 or not tables.issubset(mapper.tables):
        return GeneratedKey(mapper, reason=why.NO_TABLE_OF_ITS_OWN)
    parts = []
    for column in columns:
        assert isinstance(column, Column)
        declared = column.default if isinstance(column.default, Sequence) else None
        known = _database_types(column.type)
        if not known or (declared is not None and not _is_integer(column.type)):
            expected = "an integer" if declared is not None else "an integer, a UUID or text"
            return GeneratedKey(mapper, reason=why.key_type(column.name, expected))
        attribute = mapper.get_property_by_column(column).key
        optional = declared is None or declared.optional
        declared = None if optional else declared
        parts.append(GeneratedKey(mapper, column.table, column, attribute, declared))
    return replace(parts[0], others=tuple(parts[1:]))


def may_be_generated(column: Any) -> bool:
    if not isinstance(column, Column) or isinstance(column.server_default, Computed):
        return False
    if column.default is not None:
        return isinstance(column.default, Sequence)
    table: Any = column.table
    return column.server_default is not None or (
        isinstance(table, Table) and table.autoincrement_column is column
    )


def _model_maximum(type_: TypeEngine[Any]) -> int:
    """Return the largest value of the integer type that the model declares."""
    plain = getattr(type_, "impl_instance", type_)
    if isinstance(plain, BigInteger):
        return _LIMITS["int8"][1]
    return _LIMITS["int2" if isinstance(plain, SmallInteger) else "int4"][1]


def _database_types(type_: TypeEngine[Any]) -> Iterable[str]:
    """Return the column types of the database that hold the values of the model's type."""
    plain = getattr(type_, "impl_instance", type_)
    if isinstance(plain, Integer):
        return _LIMITS
    if isinstance(plain, Uuid):
        return ("uuid",) if plain.native_uuid else ()
    if isinstance(plain, String) and not isinstance(plain, Enum):
        return ("text", "varchar")
    return ()


def _is_integer(type_: TypeEngine[Any]) -> bool:
    return isinstance(getattr(type_, "impl_instance", type_), Integer)


class _Outgrown(set[tuple[int, int]]):
    """Sequences by oid, each with the largest value of the model's type, which its ids exceed."""


def note_outgrown(connection: Connection, source: KeySequence, ids: SequenceOf[Any]) -> bool:
    """Return whether ids (ascending or descending if from a sequence) exceed the key's type in the
    model, but not the column's type, and record it. INSERT casts a key that it is given to the
    model's type, and one that the database generates to the column's, so such ids are useless to
    it; from then on none are taken.
    """
    if not source.maximum:
        return False
    seen = ids if source.sequence is None else ids[-1:]
    largest = max(map(abs, seen), default=0)
    if not source.model_maximum < largest <= source.maximum:
        return False
    if source.sequence is not None:
        known_of(connection.dialect, _Outgrown).add((source.sequence.oid, source.model_maximum))
    return True


def check_range(source: KeySequence, ids: SequenceOf[Any]) -> None:
    """Refuse ids, in order, that the key column of ``source`` cannot hold.

    :raises SequenceExhaustedError: an id exceeds the column's type.
    """
    if source.sequence is None:
        return
    if ids and not (
        source.minimum <= min(ids[0], ids[-1]) and max(ids[0], ids[-1]) <= source.maximum
    ):
        assert source.key.column is not None
        raise SequenceExhaustedError(
            f"Sequence {source.sequence.name} of {source.key.mapper.class_.__name__} has passed "
            f"the type of its column {source.key.column.name}: it returned "
            f"{max(ids[0], ids[-1], key=abs)}, the "
            f"column holds {source.minimum} to {source.maximum}. Nothing was written; alter the "
            "column to bigint"
        )


def resolve(
    connection: Connection, mappers: Iterable[Mapper[Any]], *, to_write: bool = True
) -> dict[Mapper[Any], KeySequence]:
    """Find what generates the key of each class in the connection's database; it sends at most one
    query, if a table is not cached. If one column of a key cannot be reserved, none is.

    :param to_write: whether the ids are for rows that are written at once, so that they must fit
        the model's type.
    """
    keys = {mapper: generated_key(mapper) for mapper in mappers}
    names = {
        key: table_name(connection, key.table) for key in keys.values() if key.table is not None
    }
    facts = catalogue.table_facts(connection, names.values())
    return {
        mapper: _together(
            [_resolve_one(connection, part, facts[names[key]], to_write) for part in key.parts]
        )
        if key in names
        else KeySequence(key, reason=key.reason)
        for mapper, key in keys.items()
    }


def _together(parts: list[KeySequence]) -> KeySequence:
    for part in parts:
        if part.reason is not None:
            return replace(part, key=parts[0].key)
    return replace(parts[0], others=tuple(parts[1:])) if len(parts) > 1 else parts[0]


def _resolve_one(
    connection: Connection, key: GeneratedKey, facts: catalogue.TableFacts | None, to_write: bool
) -> KeySequence:
    assert key.column is not None
    if facts is None:
        return KeySequence(key, reason=why.NO_TABLE)
    column = facts.columns.get(stored_name(key.column.name))
    if column is None:
        return KeySequence(key, facts, reason=why.no_column(facts.name, key.column.name))
    source = _reason_of_table(key, facts, column) or _source_of(connection, key, column)
    if isinstance(source, Reason):
        return KeySequence(key, facts, reason=source)
    sequence = source if isinstance(source, catalogue.SequenceFacts) else None
    minimum, maximum = _LIMITS.get(column.type_name, (0, 0))
    model_maximum = _model_maximum(key.column.type) if maximum else 0
    if (
        to_write
        and sequence is not None
        and (
            sequence.minimum > model_maximum
            or (sequence.oid, model_maximum) in known_of(connection.dialect, _Outgrown)
        )
    ):
        return KeySequence(key, facts, reason=why.beyond_model(sequence.name, column.name))
    return KeySequence(
        key,
        facts,
        sequence,
        minimum,
        maximum,
        model_maximum,
        column.always_identity,
        result_processor(key.column.type, connection.dialect),
        default=source if isinstance(source, DefaultFacts) else None,
    )


def _reason_of_table(
    key: GeneratedKey, facts: catalogue.TableFacts, column: catalogue.ColumnFacts
) -> Reason | None:
    """Why no key of the table can be reserved, whatever fills it."""
    assert key.column is not None
    if column.type_name not in _database_types(key.column.type):
        return why.key_stored_as(column.name, column.type_name)
    if not facts.lockable:
        if facts.kind not in {"r", "p"}:
            return why.not_a_table(facts.name, "not a table")
        return why.no_insert_privilege(facts.name)
    if facts.before_insert_triggers:
        return why.trigger_on_key(facts.name)
    return why.rule_on_key(facts.name) if facts.insert_rules else None


def _source_of(
    connection: Connection, key: GeneratedKey, column: catalogue.ColumnFacts
) -> catalogue.SequenceFacts | DefaultFacts | Reason:
    """What fills the column of a key: a sequence or another default; or why neither can be used."""
    sequence, default = column.sequence, column.default
    if key.declared is not None:
        name = qualified_name(connection, key.declared.schema, key.declared.name)
        declared = catalogue.sequence_facts(connection, name)
        if declared is None:
            return why.no_sequence(name)
        # Under the declared name, so that an unqualified name follows search_path, as the table's
        # does.
        sequence, default = replace(declared, name=name), None
    elif column.type_name not in _LIMITS:
        sequence = None
    if default is not None:
        return default.problem or default
    if sequence is None:
        lacking = why.no_sequence_for if column.type_name in _LIMITS else why.no_default_for
        return lacking(column.name)
    return sequence if sequence.usable else why.no_usage(sequence.name)


def require(resolved: KeySequence, *, on_citus: bool) -> None:
    """Raise an error for a class of which nothing can be reserved.

    :param on_citus: the database is a node of Citus, which may lack what another node has.
    :raises SequenceNotFoundError: with the reason.
    """
    if resolved.reason is None:
        return
    reason = resolved.reason.text
    if on_citus and resolved.is_missing:
        reason += (
            "; this is a node of Citus, and a table that is not distributed is on the coordinator "
            "alone: connect to that, or make it a reference table"
        )
    raise SequenceNotFoundError(
        f"No ids can be reserved for {resolved.key.mapper.class_.__name__}: {reason}. "
        "Expected a Sequence on its key column, an identity or serial column, or a default "
        "that calls nextval() or another volatile function"
    )
