"""The plan by which the rows of one class reach one table: computed once from the mapping and the
catalogue, for thousands of rows. :mod:`sqla_seqreserve._rows.division` applies it. No I/O happens
here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._ids.catalogue import ColumnFacts, TableFacts
from .._ids.table_names import stored_name
from .._reasons import Reason
from .._sqlalchemy.mapping import (
    attributes_to_columns,
    bind_processor,
    hands_on_keys,
    has_bind_expression,
    insert_orm_defaults,
    is_sentinel,
    kept_with,
    key_columns,
    of_dialect,
    plain_callable,
    prefers_eager_defaults,
    returns_keys_in_order,
    sentinel_column,
    server_default_columns,
)
from ..copy_codecs._choice import encoding_of, generation
from ..copy_codecs._codec import CopyColumn, Encoding
from .codecs import Codec, codec_for, is_uniform, value_table
from .model_types import Refusal
from .table import Missing

_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


class Absent(enum.Enum):
    """What a column gets in a row that gives it no value."""

    NULL = "NULL is written, as SQLAlchemy does for a column without default"
    DEFAULT = "the Python-side default is written"
    OMITTED = "the column is left out and the database fills it"
    ELSEWHERE = "SQLAlchemy writes the row: the default is an SQL expression, or the row has no key"


@dataclass(frozen=True, slots=True, eq=False)
class ColumnPlan:
    """One column: where its value comes from and how it is prepared.

    A column that the class does not map (excluded, or of a sibling in single-table inheritance) has
    no attribute; it is listed for its default.

    ``casts``: INSERT of several rows changes a value in a way that neither COPY nor an INSERT of
    known keys does, so SQLAlchemy must number and write the rows. ``is_uniform``: the processor
    returns values of one type, whatever it gets. ``encoding``: how a
    :class:`~sqla_seqreserve.CopyCodec` writes values before the processor; values that it refuses
    go by ``codec``.
    """

    column: Column[Any]
    attribute: str | None
    absent: Absent
    codec: Codec | None
    reason: Reason | None
    processor: Callable[[Any], Any] | None
    evaluates_none: bool
    default: Callable[[Any], Any] | None
    is_version: bool
    casts: bool
    is_uniform: bool
    plain_default: Callable[[], Any] | None = None
    """The default if it takes no context: the function without SQLAlchemy's wrapper."""
    is_of_class: bool = False
    """The default is a version or belongs to the class: the ORM sets it, before the defaults of
    columns.
    """
    encoding: Encoding | None = None

    @property
    def nothing(self) -> Missing | None:
        """What stands for "no value": a marker where ``None`` is a value (JSON)."""
        return Missing.MISSING if self.evaluates_none else None

    @property
    def is_made_ready(self) -> bool:
        """Whether values are converted into others, so that their types say nothing."""
        return self.processor is not None or self.encoding is not None


@dataclass(frozen=True, slots=True, eq=False)
class InsertPlan:
    """The plan for one class and one of its tables, in one database."""

    mapper: Mapper[Any]
    table: Table
    facts: TableFacts
    reason: Reason | None
    columns: tuple[ColumnPlan, ...]
    hands_on_keys: bool
    reads_back: bool
    server_columns: tuple[Column[Any], ...]
    source: Mapping[str, Any]
    context_default: str | None = None
    """The name of a column whose default takes the context of its INSERT, through which it may read
    the rows that were written before.
    """
    sentinel: ColumnPlan | None = None
    """A column made by ``insert_sentinel()``, which is not among :attr:`columns`. If an INSERT of
    several rows makes their keys, SQLAlchemy numbers the rows in this column, from 0.
    """
    numbers_more: bool = False
    """Whether the database numbers another column than the key."""

    @property
    def keeps_order(self) -> bool:
        """Whether rows must be written in the order of ``add()``: a row may refer to an earlier
        one, a trigger or a default may read it, or a sequence counts the rows.
        """
        return (
            self.facts.references_itself
            or self.facts.insert_triggers
            or self.numbers_more
            or self.context_default is not None
        )

    @property
    def cast_reason(self) -> Reason | None:
        """Why SQLAlchemy must number the rows as well as write them: an INSERT with known keys has
        another form, which does not cast to the model's types and counts no sentinel.
        """
        if self.sentinel is not None and self.reason is not None:
            return self.reason
        for column in self.columns:
            if column.casts:
                return column.reason
        return None


_MOST_PLANS: Final = 64
"""The number of plans kept for one class. A plan is for a table and a dialect; an application that
creates engines endlessly also drops them without notice.
"""


def insert_plan(
    mapper: Mapper[Any], table: Table, facts: TableFacts, dialect: Dialect
) -> InsertPlan:
    """Return the plan for these arguments; computed once, and again when the mapping or the table
    has changed.
    """
    plans: dict[Any, InsertPlan] = kept_with(mapper).setdefault(InsertPlan, {})
    key = (table, id(dialect), generation())
    plan = plans.get(key)
    source = attributes_to_columns(mapper, table)
    if plan is None or plan.facts is not facts or plan.source is not source:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plan = plans[key] = _make_plan(mapper, table, facts, dialect, source)
    return plan


def _make_plan(
    mapper: Mapper[Any],
    table: Table,
    facts: TableFacts,
    dialect: Dialect,
    source: Mapping[str, Any],
) -> InsertPlan:
    orm_defaults = insert_orm_defaults(mapper, table)
    by_column = {column: attribute for attribute, column in source.items()}
    columns = tuple(
        _plan_column(mapper, table, column, by_column.get(column), facts, dialect, orm_defaults)
        for column in table.columns
        if (column in by_column or column.default is not None) and not is_sentinel(column)
    )
    marked = sentinel_column(table)
    sentinel = (
        None
        if marked is None
        else _plan_column(mapper, table, marked, None, facts, dialect, orm_defaults)
    )
    context_defaults = (
        plan.column.name
        for plan in columns
        if plan.default is not None
        and not plan.is_of_class
        and plan.plain_default is None
        and not plan.column.default.is_scalar  # type: ignore[union-attr]  # it has a default
    )
    context_default = next(context_defaults, None)
    reason = _table_reason(mapper, table, facts, columns)
    if reason is None and sentinel is not None:
        counts = context_default is None and returns_keys_in_order(table, dialect)
        if not counts or not _makes_keys(mapper, table, facts):
            reason = why.sentinel(sentinel.column.name)
    return InsertPlan(
        mapper=mapper,
        table=table,
        facts=facts,
        reason=reason,
        columns=columns,
        hands_on_keys=hands_on_keys(mapper, table),
        reads_back=prefers_eager_defaults(mapper, dialect, table),
        server_columns=tuple(server_default_columns(mapper, table)),
        source=source,
        context_default=context_default,
        sentinel=sentinel,
        numbers_more=_numbers_more(mapper, table, facts),
    )


def _makes_keys(mapper: Mapper[Any], table: Table, facts: TableFacts) -> bool:
    """Whether one INSERT writes all new rows of a flush, if they give no keys: Python-side defaults
    make these, and no row refers to another.
    """
    keys = key_columns(mapper, table)
    return not facts.references_itself and all(
        key.default is not None and (key.default.is_callable or key.default.is_scalar)
        for key in keys
    )


_RANDOM: Final = ("gen_random_uuid()", "uuid_generate_v4()")


def _numbers_more(mapper: Mapper[Any], table: Table, facts: TableFacts) -> bool:
    """Whether the database gives a column other than the key a different value for each row, which
    reveals their order.
    """
    keys = {stored_name(str(key.name)) for key in key_columns(mapper, table)}
    return any(
        column.sequence is not None
        or (column.default is not None and not column.default.expression.endswith(_RANDOM))
        for name, column in facts.columns.items()
        if name not in keys
    )


def _table_reason(
    mapper: Mapper[Any], table: Table, facts: TableFacts, columns: Sequence[ColumnPlan]
) -> Reason | None:
    if facts.kind not in {"r", "p"}:
        return why.not_a_table(table.name, _KINDS.get(facts.kind, "not a table"))
    if not facts.lockable:
        return why.no_insert_privilege(table.name)
    if facts.before_insert_triggers:
        return why.before_insert_trigger(table.name)
    if facts.row_security:
        return why.row_security(table.name)
    if facts.insert_rules:
        return why.insert_rule(table.name)
    if mapper.version_id_col is not None and mapper.version_id_generator is False:
        return why.VERSION_BY_DATABASE
    unknown = [
        plan.column.name for plan in columns if stored_name(plan.column.name) not in facts.columns
    ]
    if unknown:
        return why.no_column(table.name, ", ".join(unknown))
    return None


def _plan_column(
    mapper: Mapper[Any],
    table: Table,
    column: Column[Any],
    attribute: str | None,
    facts: TableFacts,
    dialect: Dialect,
    orm_defaults: Mapping[str, Any],
) -> ColumnPlan:
    is_version = column is mapper.version_id_col
    is_of_class = is_version or (attribute is not None and attribute in orm_defaults)
    absent, default = _filled_by(mapper, column, attribute, orm_defaults)
    sent = _sent_as(table, column, facts.columns.get(stored_name(column.name)), dialect)
    return ColumnPlan(
        column=column,
        attribute=attribute,
        absent=absent,
        codec=sent.codec,
        reason=sent.reason,
        processor=bind_processor(column.type, dialect),
        evaluates_none=bool(column.type.should_evaluate_none),
        default=default,
        is_version=is_version,
        casts=sent.casts,
        is_uniform=is_uniform(column.type, dialect),
        plain_default=None if is_of_class else plain_callable(column.default),
        is_of_class=is_of_class,
        encoding=sent.encoding,
    )


def _filled_by(
    mapper: Mapper[Any], column: Column[Any], attribute: str | None, orm_defaults: Mapping[str, Any]
) -> tuple[Absent, Callable[[Any], Any] | None]:
    """What the column gets in a row that gives it no value, and the default that makes the
    value.
    """
    if column is mapper.version_id_col:
        generator = mapper.version_id_generator
        return Absent.DEFAULT, lambda _: generator(None)  # type: ignore[operator,misc]  # False is told apart in _table_reason
    if attribute is not None and attribute in orm_defaults:
        # A default of the class, so it precedes that of a column that classes share.
        constant = orm_defaults[attribute]
        return Absent.DEFAULT, lambda _: constant
    if column.default is not None:
        return _python_default(column)
    if column.primary_key:
        return Absent.ELSEWHERE, None
    if column.server_default is not None or column.type.should_evaluate_none:
        return Absent.OMITTED, None
    return Absent.NULL, None


class _Sent(NamedTuple):
    """How COPY sends the values of a column, or why it cannot; see :class:`ColumnPlan`."""

    codec: Codec | None = None
    encoding: Encoding | None = None
    reason: Reason | None = None
    casts: bool = False


def _sent_as(
    table: Table, column: Column[Any], facts: ColumnFacts | None, dialect: Dialect
) -> _Sent:
    """How the values of a column are sent, if the database has it with these facts."""
    if facts is None:
        return _Sent(reason=why.no_column(table.name, column.name))
    if facts.generated:
        return _Sent(reason=why.computed(column.name))
    encoding = _encoding(column, facts, dialect)
    if has_bind_expression(column.type, dialect):
        if encoding is None:
            return _Sent(reason=why.wrapped_in_sql(column.name))
        # Without the SQL around the parameters, only encoded values go by COPY.
        return _Sent(Codec(facts.type_oid, casts_each=True), encoding)
    found = codec_for(column.type, facts, dialect)
    if not isinstance(found, Refusal):
        return _Sent(found, encoding)
    if encoding is None:
        return _Sent(reason=found.reason, casts=found.casts)
    return _Sent(Codec(facts.type_oid, casts_each=not found.casts), encoding)


def _encoding(column: Column[Any], facts: ColumnFacts, dialect: Dialect) -> Encoding | None:
    if facts.is_unknown_domain or value_table(dialect) is None:
        return None
    return encoding_of(
        CopyColumn(
            str(column.name),
            of_dialect(column.type, dialect),
            facts.type_name,
            facts.type_text,
            dialect,
        )
    )


def _python_default(column: Column[Any]) -> tuple[Absent, Callable[[Any], Any] | None]:
    default: Any = column.default
    if default.is_scalar:
        constant = default.arg
        return Absent.DEFAULT, lambda _: constant
    if default.is_callable:
        return Absent.DEFAULT, default.arg
    return Absent.ELSEWHERE, None
