"""How the rows of one class reach one table: worked out once from the mapping and the catalogue,
then applied to thousands of rows.

A plan works by columns, not by rows: it takes one attribute of every row at a time, so that what
kinds of values a column holds is one ``set`` of types, and one call checks or converts them all.
Rows that SQLAlchemy must write itself (SQL expressions, a key that nobody set, values that the
server would cast) are told apart with the reason. No I/O happens here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import ClauseElement

from . import _host as host
from ._catalogue import TableFacts
from .writers._codecs import Codec, codec_for, exact_types, present

__all__ = ["Absent", "Batch", "ColumnPlan", "InsertPlan", "insert_plan", "is_plain"]

_NOTHING_GIVEN: Final[Mapping[str, list[Any]]] = {}
_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


class Absent(enum.Enum):
    """What becomes of a column for a row that gives it no value."""

    NULL = "NULL is written, as SQLAlchemy does for a column without default"
    DEFAULT = "the Python-side default is written"
    OMITTED = "the column is left out and the database fills it"
    ELSEWHERE = "SQLAlchemy writes the row: the default is an SQL expression, or the row has no key"


class _Missing(enum.Enum):
    """Stands for no value where ``None`` is one (JSON)."""

    MISSING = 0


@dataclass(frozen=True, slots=True, eq=False)
class ColumnPlan:
    """One column: where its value comes from and how it is made ready.

    A column that the class does not map (excluded, or of a sibling in single-table inheritance) has
    no attribute; it is here for its default.
    """

    column: Column[Any]
    attribute: str | None
    absent: Absent
    codec: Codec | None
    reason: str | None
    processor: Callable[[Any], Any] | None
    evaluates_none: bool
    default: Callable[[Any], Any] | None
    is_version: bool


@dataclass(frozen=True, slots=True, eq=False)
class FilledValues:
    """A column's values with its default where none was given, and as they were given."""

    values: Sequence[Any]
    given: Sequence[Any]
    nothing: object

    def is_default(self, position: int) -> bool:
        """Whether the row at this position of the batch had no value of its own."""
        return self.given[position] is self.nothing


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that one COPY writes: positions in the input, and per column its name, type oid and
    values.
    """

    positions: Sequence[int]
    columns: list[str]
    oids: list[int]
    values: list[Sequence[Any]]
    binary: bool
    defaults: dict[str, FilledValues]
    omitted: list[Column[Any]]


@dataclass(slots=True, eq=False)
class Division:
    """The rows of one class, divided into what COPY takes and what it does not (positions by
    reason).
    """

    batches: list[Batch] = field(default_factory=list)
    elsewhere: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class InsertPlan:
    """The plan for one class and one of its tables, in one database."""

    mapper: Mapper[Any]
    table: Table
    facts: TableFacts
    reason: str | None
    columns: tuple[ColumnPlan, ...]
    hands_on_keys: bool
    reads_back: bool
    server_columns: tuple[Column[Any], ...]
    source: Mapping[str, Any]

    @property
    def keeps_order(self) -> bool:
        """Whether rows must be written in the order of ``add()``: a row may refer to an earlier
        one, or a trigger watches.
        """
        return self.facts.references_itself or self.facts.insert_triggers

    def first_reason(self) -> str | None:
        """Why COPY is not used for every row of the class, as far as the plan alone tells."""
        if self.reason is not None:
            return self.reason
        for column in self.columns:
            if column.reason is not None and column.absent is not Absent.OMITTED:
                return column.reason
        return None

    def divide(
        self,
        rows: Sequence[Mapping[str, Any]],
        connection: Connection,
        given: Mapping[str, list[Any]] = _NOTHING_GIVEN,
    ) -> Division:
        """Divide the rows, mappings of attribute key to value, without changing any.

        :param given: attribute key -> one value a row, in place of what the rows hold.
        """
        division = Division()
        if self.reason is not None:
            division.elsewhere[self.reason] = list(range(len(rows)))
            return division
        collected, elsewhere, groups = self._collect(rows, given)
        for positions in groups.values():
            whole = len(positions) == len(rows)
            chosen = [
                (plan, values if whole or not values else [values[i] for i in positions])
                for plan, values in zip(self.columns, collected, strict=True)
            ]
            outcome = self._batch(range(len(rows)) if whole else positions, chosen, connection)
            if isinstance(outcome, Batch):
                division.batches.append(outcome)
            else:
                elsewhere.setdefault(outcome, []).extend(positions)
        division.elsewhere = elsewhere
        return division

    def _collect(
        self, rows: Sequence[Mapping[str, Any]], given: Mapping[str, list[Any]]
    ) -> tuple[list[list[Any]], dict[str, list[int]], dict[Any, Sequence[int]]]:
        """Every column's values; the positions to be written elsewhere; and the others grouped
        by the columns that they omit.
        """
        collected: list[list[Any]] = []
        refused: dict[int, str] = {}
        omissions: list[list[bool]] = []
        for plan in self.columns:
            attribute, absent = plan.attribute, plan.absent
            if plan.is_version or attribute is None:
                collected.append([None] * len(rows))
                if absent is Absent.ELSEWHERE:
                    reason = f"the default of {plan.column.name} is an SQL expression"
                    for position in range(len(rows)):
                        refused.setdefault(position, reason)
                continue
            nothing: Any = _Missing.MISSING if plan.evaluates_none else None
            if attribute in given:
                values = given[attribute]
            elif plan.evaluates_none:
                values = [row.get(attribute, nothing) for row in rows]
            else:
                values = [row.get(attribute) for row in rows]
            types = set(map(type, values))
            if any(_is_sql(type_) for type_ in types):
                for position, value in enumerate(values):
                    if _is_sql(type(value)):
                        refused.setdefault(position, f"{attribute} is an SQL expression")
            if type(nothing) in types:
                if absent is Absent.ELSEWHERE:
                    reason = (
                        f"{attribute} has no value"
                        if plan.column.primary_key
                        else f"the default of {attribute} is an SQL expression"
                    )
                    for position, value in enumerate(values):
                        if value is nothing:
                            refused.setdefault(position, reason)
                elif absent is Absent.OMITTED:
                    if types == {type(nothing)}:
                        values = []
                    else:
                        omissions.append([value is nothing for value in values])
            collected.append(values)
        elsewhere: dict[str, list[int]] = {}
        for position, reason in refused.items():
            elsewhere.setdefault(reason, []).append(position)
        if not refused and not omissions:
            return collected, elsewhere, {(): range(len(rows))}
        groups: dict[Any, Any] = {}
        patterns = zip(*omissions, strict=True) if omissions else iter(lambda: (), None)
        for position, pattern in zip(range(len(rows)), patterns, strict=False):
            if position not in refused:
                groups.setdefault(pattern, []).append(position)
        return collected, elsewhere, groups

    def _batch(
        self,
        positions: Sequence[int],
        chosen: list[tuple[ColumnPlan, list[Any]]],
        connection: Connection,
    ) -> Batch | str:
        """The batch of these rows, or the reason why COPY cannot write them."""
        ready: list[tuple[ColumnPlan, list[Any]]] = []
        omitted: list[Column[Any]] = []
        text_only = False
        for plan, values in chosen:
            if plan.absent is Absent.OMITTED and (
                not values or values[0] is (_Missing.MISSING if plan.evaluates_none else None)
            ):
                omitted.append(plan.column)
                continue
            if plan.codec is None:
                return plan.reason or f"{plan.column.name} cannot be written by COPY"
            ready.append((plan, values))
        # What the user gave is checked before any default is computed: a default must not be asked
        # for twice.
        prepared: dict[int, list[Any]] = {}
        for index, (plan, values) in enumerate(ready):
            if plan.default is None:
                outcome = _prepare(plan, values)
                if isinstance(outcome, str):
                    return outcome
                prepared[index], is_text = outcome
                text_only = text_only or is_text
        defaults: dict[str, FilledValues] = {}
        context = _DefaultContext(connection, ready)
        for index, (plan, values) in enumerate(ready):
            if plan.default is not None:
                filled = context.fill(plan, values)
                if filled is not values:
                    if plan.attribute is not None:
                        defaults[plan.attribute] = FilledValues(
                            filled, values, _Missing.MISSING if plan.evaluates_none else None
                        )
                    ready[index] = (plan, filled)
                outcome = _prepare(plan, filled)
                if isinstance(outcome, str):
                    return outcome
                prepared[index], is_text = outcome
                text_only = text_only or is_text
        return Batch(
            positions,
            [plan.column.name for plan, _ in ready],
            [plan.codec.oid for plan, _ in ready if plan.codec is not None],
            [prepared[index] for index in range(len(ready))],
            not text_only,
            defaults,
            omitted,
        )


class _DefaultContext:
    """What a context-sensitive default is called with: the parameters of the row, as
    SQLAlchemy's execution context gives them.
    """

    def __init__(self, connection: Connection, ready: list[tuple[ColumnPlan, list[Any]]]) -> None:
        self.connection = self.root_connection = connection
        self.dialect = connection.dialect
        self.engine = connection.engine
        self.isinsert = True
        self.isupdate = self.isdelete = False
        self.current_column: Column[Any] | None = None
        self._ready = ready
        self._position = 0

    @property
    def current_parameters(self) -> dict[str, Any]:
        return {
            plan.column.key: values[self._position]
            for plan, values in self._ready
            if plan.default is None or values[self._position] is not None
        }

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002  # SQLAlchemy's signature
        return self.current_parameters

    def fill(self, plan: ColumnPlan, values: list[Any]) -> list[Any]:
        """The values with the default wherever there is none; the same list where nothing was
        missing.
        """
        assert plan.default is not None
        nothing = _Missing.MISSING if plan.evaluates_none else None
        if type(nothing) not in set(map(type, values)):
            return values
        self.current_column = plan.column
        filled = list(values)
        slot = next(i for i, (ready, _) in enumerate(self._ready) if ready is plan)
        self._ready[slot] = (plan, filled)
        for position, value in enumerate(values):
            if value is nothing:
                self._position = position
                try:
                    filled[position] = plan.default(self)
                except Exception as error:
                    if plan.is_version:
                        raise
                    raise self._in_statement(error, plan.column) from error
        return filled

    def _in_statement(self, error: Exception, column: Column[Any]) -> BaseException:
        """The error as SQLAlchemy raises it: it runs a default, but no version, in a statement."""
        return DBAPIError.instance(
            f"INSERT INTO {column.table}",
            None,
            error,
            self.dialect.loaded_dbapi.Error,
            hide_parameters=True,
            dialect=self.dialect,
        )


def _is_sql(type_: type) -> bool:
    return issubclass(type_, ClauseElement) or hasattr(type_, "__clause_element__")


def is_plain(value: object) -> bool:
    """Whether a value is one that a driver could take, and not an SQL expression."""
    return not _is_sql(type(value))


def _prepare(plan: ColumnPlan, values: list[Any]) -> tuple[list[Any], bool] | str:
    """The values as the driver takes them, and whether they must go as text; or why COPY cannot
    write them as INSERT would.
    """
    codec = plan.codec
    assert codec is not None
    if plan.processor is not None:
        try:
            values = [plan.processor(value) for value in values]
        except Exception as error:
            # SQLAlchemy's own writer meets the same value and raises what it always raises.
            return f"{plan.column.name} cannot be processed ({type(error).__name__})"
    types = exact_types(values)
    if not types <= codec.binary and types <= codec.binary | codec.convert.keys():
        convert = codec.convert
        values = [
            convert[type(value)](value) if type(value) in convert else value for value in values
        ]
        types = exact_types(values)
    is_text = not types <= codec.binary
    if is_text and not types <= codec.text:
        names = ", ".join(sorted(type_.__name__ for type_ in types - codec.binary))
        return f"{plan.column.name} holds {names} for a column of type {plan.column.type!r}"
    if types and codec.check is not None and not codec.check(present(values)):
        if codec.text_is_unchecked:
            return values, True
        return f"{plan.column.name} holds a value that the server would cast or refuse"
    return values, is_text or not codec.binary


_plans: MutableMapping[Mapper[Any], dict[tuple[Table, int], InsertPlan]] = WeakKeyDictionary()


def insert_plan(
    mapper: Mapper[Any], table: Table, facts: TableFacts, dialect: Dialect
) -> InsertPlan:
    """The plan for these; computed once, and again when the mapping or the table has changed."""
    plans = _plans.setdefault(mapper, {})
    key = (table, id(dialect))
    plan = plans.get(key)
    source = host.attributes_to_columns(mapper, table)
    if plan is None or plan.facts is not facts or plan.source is not source:
        plan = plans[key] = _make_plan(mapper, table, facts, dialect, source)
    return plan


def _make_plan(
    mapper: Mapper[Any],
    table: Table,
    facts: TableFacts,
    dialect: Dialect,
    source: Mapping[str, Any],
) -> InsertPlan:
    orm_defaults = host.insert_orm_defaults(mapper, table)
    by_column = {column: attribute for attribute, column in source.items()}
    columns = tuple(
        _plan_column(mapper, column, by_column.get(column), facts, dialect, orm_defaults)
        for column in table.columns
        if (column in by_column or column.default is not None) and not host.is_sentinel(column)
    )
    return InsertPlan(
        mapper,
        table,
        facts,
        _table_reason(mapper, table, facts, columns),
        columns,
        host.hands_on_keys(mapper, table),
        host.prefers_eager_defaults(mapper, dialect, table),
        tuple(host.server_default_columns(mapper, table)),
        source,
    )


def _table_reason(
    mapper: Mapper[Any], table: Table, facts: TableFacts, columns: Sequence[ColumnPlan]
) -> str | None:
    if facts.kind not in {"r", "p"}:
        return f"{table.name} is {_KINDS.get(facts.kind, 'not a table')}"
    if facts.row_security:
        return f"{table.name} has row-level security"
    if facts.insert_rules:
        return f"{table.name} has a rule on INSERT"
    if mapper.version_id_col is not None and mapper.version_id_generator is False:
        return "its version is generated by the database"
    unknown = [plan.column.name for plan in columns if plan.column.name not in facts.columns]
    if unknown:
        return f"{table.name} has no column {', '.join(unknown)}"
    return None


def _plan_column(
    mapper: Mapper[Any],
    column: Column[Any],
    attribute: str | None,
    facts: TableFacts,
    dialect: Dialect,
    orm_defaults: Mapping[str, Any],
) -> ColumnPlan:
    in_database = facts.columns.get(column.name)
    codec: Codec | None = None
    reason: str | None = None
    if in_database is None:
        reason = f"the table has no column {column.name}"
    elif in_database.generated:
        reason = f"column {column.name} is computed by the database"
    elif host.has_bind_expression(column.type, dialect):
        reason = f"the type of {column.name} wraps its values in SQL"
    else:
        found = codec_for(column.type, in_database, dialect)
        codec, reason = (None, found) if isinstance(found, str) else (found, None)
    is_version = column is mapper.version_id_col
    evaluates_none = bool(column.type.should_evaluate_none)
    default: Callable[[Any], Any] | None = None
    absent = Absent.NULL
    if is_version:
        generator = mapper.version_id_generator
        default, absent = (lambda _: generator(None)), Absent.DEFAULT  # type: ignore[operator,misc]  # False is told apart in _table_reason
    elif attribute is not None and attribute in orm_defaults:
        # Of the class, so it goes before the default of a column that classes share.
        constant = orm_defaults[attribute]
        default, absent = (lambda _: constant), Absent.DEFAULT
    elif column.default is not None:
        absent, default = _python_default(column)
    elif column.server_default is not None or (evaluates_none and not column.primary_key):
        absent = Absent.OMITTED
    elif column.primary_key:
        absent = Absent.ELSEWHERE
    if column.primary_key and absent is Absent.OMITTED:
        absent = Absent.ELSEWHERE
    return ColumnPlan(
        column,
        attribute,
        absent,
        codec,
        reason,
        host.bind_processor(column.type, dialect),
        evaluates_none,
        default,
        is_version,
    )


def _python_default(column: Column[Any]) -> tuple[Absent, Callable[[Any], Any] | None]:
    default: Any = column.default
    if default.is_scalar:
        constant = default.arg
        return Absent.DEFAULT, lambda _: constant
    if default.is_callable:
        return Absent.DEFAULT, default.arg
    return Absent.ELSEWHERE, None
