"""Counts what a flush writes beside new objects: changed and deleted objects, and link rows.

SQLAlchemy decides what these are while it executes the flush. So this module listens to its
statements (``_drivers.execution``), but only if the flush is reported to somebody. A statement
gives its table and, in its parameters, the keys of its rows; the objects of the flush give the
class for each key. So an object is counted once, however many tables have a row of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._drivers import driver_on
from .._drivers.execution import Many, listen, listened_to_by
from .._reasons import Reason
from .._sqlalchemy.executed import (
    changed_table,
    has_expressions,
    identity_of,
    keys_of,
    link_tables,
    mappers_by_cache,
    returns_rows,
    rows_of,
    uses,
)
from .._sqlalchemy.mapping import tables_in_order
from .._sqlalchemy.session import is_sharded
from .._writers.many_costs import COPIED_FROM
from ..reports import Kind, Writer
from .report import ReportBuilder
from .settings import Settings

_RANK: Final = {"copy": 0, "insert": 1, "orm": 2}


@contextmanager
def listening(uow: Any, run: Any) -> Iterator[None]:
    """Listen to the statements of a flush while it executes, and count them if it succeeds."""
    if not is_sharded(uow.session):
        for base_mapper in {
            mapper.base_mapper
            for mapper, states in uow.mappers.items()
            if any(not is_listed for _, is_listed in map(uow.states.__getitem__, states))
        }:
            listen(run.connection_for(uow, base_mapper).dialect)
    found = _Changes(uow, run.settings)
    with listened_to_by(found):
        yield
    found.count(run.report)


@dataclass(slots=True, eq=False)
class _Statement:
    """An executed UPDATE, DELETE or INSERT.

    :param base_mapper: ``None``: the table is a link table.
    :param keys: the keys of its objects; for link rows, only their number counts.
    :param reason: for a single row: why it was sent by itself, if there are others.
    :param is_single: each row has its own statement.
    :param is_barred: rows of this session never travel together.
    """

    kind: Kind
    table: Table
    base_mapper: Mapper[Any] | None
    keys: list[Any]
    writer: Writer
    reason: Reason | None
    seconds: float
    is_single: bool = False
    is_barred: bool = False


class _Changes:
    """Collects the statements of one flush, and counts them at its end."""

    def __init__(self, uow: Any, settings: Settings) -> None:
        self._uow = uow
        self._settings = settings
        self._connections: dict[Connection, bool] = {}
        self._mappers = mappers_by_cache(uow)
        self._statements: list[_Statement] = []
        self._page_of: Any = None
        self._messages = 0

    # What is listened to

    def listens_to(self, context: Any) -> bool:
        connection = context.root_connection
        known = self._connections.get(connection)
        if known is None:
            known = self._connections[connection] = uses(self._uow, connection)
        return known

    def sent(self, round_trips: int) -> None:
        self._messages += round_trips

    def executed(self, context: Any, seconds: float) -> None:
        # SQLAlchemy executes a default for an INSERT before the context has the statement's text.
        statement = getattr(context, "statement", "")
        if not statement:
            self._messages += 1
            return
        if statement.startswith("COPY ") and context.compiled is None:
            driver = driver_on(context.root_connection)
            self._messages += 1 if driver is None else driver.copy_round_trips
            return
        self._messages += 1
        if context is self._page_of:
            # SQLAlchemy divides an INSERT with many rows into several statements.
            self._statements[-1].seconds += seconds
            return
        writer: Writer = "orm"
        reason = None
        if changed_table(context) is not None and rows_of(context) > 1:
            writer, reason = self._in_pages(context)
        self._page_of = context if self._note(context, writer, reason, seconds) else None

    def travelled(self, context: Any, seconds: float) -> None:
        rows = rows_of(context)
        self._note(context, "insert", None if rows == 1 else self._few(rows), seconds)

    def executed_many(self, context: Any, many: Many, seconds: float) -> None:
        rows = rows_of(context)
        driver = driver_on(context.root_connection)
        each = driver is not None and driver.executes_each
        self._messages += many.round_trips or (rows if each else 1)
        if many.round_trips and many.reason is None:
            self._note(context, "copy", None, seconds)
            return
        reason = many.reason or self._barred(context)
        reason = reason or why.REGISTERED_LATE
        if reason == why.FEW:
            self._note(context, "insert", self._few(rows), seconds)
        else:
            self._note(context, "orm", reason, seconds)

    def _in_pages(self, context: Any) -> tuple[Writer, Reason]:
        """Who writes, and why, rows that SQLAlchemy sends in statements of many rows, as it does
        for psycopg2.
        """
        barred = self._barred(context)
        if barred is not None:
            return "orm", barred
        asked = self._settings.copy_min_rows
        rows = rows_of(context)
        if rows < (COPIED_FROM if asked is None else asked):
            return "insert", self._few(rows)
        return "orm", why.IN_PAGES

    def _note(self, context: Any, writer: Writer, reason: Reason | None, seconds: float) -> bool:
        table = changed_table(context)
        if table is None:
            return False
        base_mapper = self._mappers.get(id(context.execution_options.get("compiled_cache")))
        keys: list[Any] | None = None
        kind: Kind
        if base_mapper is None:
            if table not in link_tables(self._uow):
                return False
            kind = "link" if context.isinsert else "unlink" if context.isdelete else "update"
        elif context.isinsert:
            return False
        else:
            kind = "update" if context.isupdate else "delete"
            keys = keys_of(base_mapper, table, context)
        is_single = reason is None and writer != "copy"
        travels = is_single and writer == "insert"
        barred = self._barred(context) if is_single else None
        if is_single and not travels:
            reason = barred or self._single(context, base_mapper)
        if keys is None:
            keys = [object() for _ in range(rows_of(context))]
        self._statements.append(
            _Statement(
                kind,
                table,
                base_mapper,
                keys,
                writer,
                reason,
                seconds,
                is_single,
                barred is not None,
            )
        )
        return True

    def _barred(self, context: Any) -> Reason | None:
        """Why rows of the session never travel together; ``None`` if they may."""
        if context.dialect.name != "postgresql":
            return why.not_postgresql(context.dialect.name)
        if self._settings.mode_reason is not None:
            return self._settings.mode_reason
        if driver_on(context.root_connection) is None:
            return why.no_fast_path(context.dialect.driver)
        return None

    def _single(self, context: Any, base_mapper: Mapper[Any] | None) -> Reason | None:
        """Why SQLAlchemy sends one statement for each row, if there are several."""
        if returns_rows(context):
            return why.VALUES_COME_BACK
        if context.isupdate and has_expressions(context):
            return why.EXPRESSION_SET
        if base_mapper is not None and base_mapper.version_id_col is not None:
            return why.VERSION_ALONE
        return None

    # What is counted

    def count(self, report: ReportBuilder) -> None:
        """Add what was executed to the flush's report."""
        report.messages += self._messages
        alone = Counter[tuple[Kind, Table]]()
        for each in self._statements:
            alone[each.kind, each.table] += len(each.keys)
        objects: dict[tuple[Kind, Mapper[Any] | None, Any], _Fate] = {}
        for each in self._statements:
            writer, reason = each.writer, each.reason
            if each.is_single:
                writer, reason = self._of_one(each, alone[each.kind, each.table])
            if each.base_mapper is None:
                report.count(each.kind, each.table, len(each.keys), 0, writer, reason, each.seconds)
                continue
            share = each.seconds / len(each.keys)
            for key in each.keys:
                fate = objects.get((each.kind, each.base_mapper, key))
                if fate is None:
                    objects[each.kind, each.base_mapper, key] = _Fate(
                        each.table, writer, reason, share
                    )
                    continue
                fate.seconds += share
                if _RANK[writer] > _RANK[fate.writer]:
                    fate.writer, fate.reason = writer, reason
        classes = _Classes(self._uow)
        for (kind, base_mapper, key), fate in objects.items():
            assert base_mapper is not None
            model = classes.of(base_mapper, key, fate.table)
            report.count(kind, model, 1, 0, fate.writer, fate.reason, fate.seconds)

    def _of_one(self, statement: _Statement, rows: int) -> tuple[Writer, Reason]:
        """The writer and the reason to report for a row that was sent by itself.

        :param rows: the number of all rows of this kind in the table.
        """
        reason = statement.reason
        if reason is not None and (rows > 1 or statement.is_barred):
            return "orm", reason
        return "insert", self._few(1) if rows == 1 else why.FEW_OF_THEIR_KIND

    def _few(self, rows: int) -> Reason:
        asked = self._settings.copy_min_rows
        return why.FEWER_THAN_ASKED if asked is not None and rows < asked else why.FEW


@dataclass(slots=True, eq=False)
class _Fate:
    """How an object's rows were written; if it has several tables, the writer of the rank farthest
    from COPY.
    """

    table: Table
    writer: Writer
    reason: Reason | None
    seconds: float


class _Classes:
    """Finds the class of an object of the flush by its key."""

    def __init__(self, uow: Any) -> None:
        self._mappers: dict[Mapper[Any], list[Mapper[Any]]] = {}
        for mapper, states in uow.mappers.items():
            if states:
                self._mappers.setdefault(mapper.base_mapper, []).append(mapper)
        self._uow = uow
        self._by_key: dict[Mapper[Any], dict[Any, type[Any]]] = {}

    def of(self, base_mapper: Mapper[Any], key: Any, table: Table) -> type[Any]:
        mappers = self._mappers.get(base_mapper, [])
        if len(mappers) == 1:
            cls: type[Any] = mappers[0].class_
            return cls
        by_key = self._by_key.get(base_mapper)
        if by_key is None:
            by_key = self._by_key[base_mapper] = {
                identity_of(state): mapper.class_
                for mapper in mappers
                for state in self._uow.mappers[mapper]
            }
        found = by_key.get(key)
        if found is not None:
            return found
        owners = dict(tables_in_order(base_mapper))
        return owners[table].class_
