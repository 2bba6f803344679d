"""Insert many rows given as mappings, without making objects of them: the fastest way in.

::

    ids = bulk_insert(session, Order, [{"customer": "ACME", "total": Decimal("9.90")}, ...])
    orders = bulk_insert(session, Order, rows, returning="objects")     # persistent, no SELECT

A row maps *attribute* keys to values, as keyword arguments of the class would. Columns left out get
their defaults, as in an ORM INSERT; ``None`` for a column with a default counts as left out. All
rows are checked before an id is reserved, and everything happens in the session's transaction. Like
every bulk operation of the ORM it knows columns, not relationships, fires no mapper events and
flushes nothing first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Final, Literal, TypeVar, overload

from sqlalchemy import Connection, Table, insert
from sqlalchemy.orm import Mapper, Session, scoped_session

from . import _audit as audit
from . import _host as host
from ._drivers import CopyRows, driver_of
from ._host.collector import collector_paused
from ._ids import catalogue
from ._ids.catalogue import TableFacts
from ._ids.fetch import IdRequest, take_ids
from ._ids.keys import KeySequence, generated_key, mapper_of, resolve
from ._ids.read_only import read_only_told
from ._rows.division import Batch, divide, is_plain, values_of
from ._rows.plan import Absent, InsertPlan, insert_plan
from ._writers.copy import copy_rows, no_copy_reason, refused_types, warn_of_driver
from .errors import ConfigurationError, InvalidRowsError, RowProblem
from .reports import FlushEntry
from .reservation import ReservedIds, connection_of

__all__ = ["bulk_insert"]

log = logging.getLogger("sqla_seqreserve.bulk")

_T = TypeVar("_T")
_Rows = Sequence[Mapping[str, Any]]

_NO_AUTOFLUSH: Final = {"autoflush": False}
_MOST_PROBLEMS: Final = 1000
_ATTEMPTS: Final = 50


@overload
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Iterable[Mapping[str, Any]],
    *,
    progress: Callable[[int], object] | None = None,
    returning: Literal["ids"] = "ids",
) -> ReservedIds: ...
@overload
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Iterable[Mapping[str, Any]],
    *,
    progress: Callable[[int], object] | None = None,
    returning: Literal["objects"],
) -> list[_T]: ...
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Iterable[Mapping[str, Any]],
    *,
    progress: Callable[[int], object] | None = None,
    returning: Literal["ids", "objects"] = "ids",
) -> ReservedIds | list[_T]:
    """Insert rows of one class by COPY, their keys reserved in one round trip.

    :param rows: mappings of attribute key -> value. A key that a row gives stays.
    :param progress: called with the number of rows sent since the last call.
    :param returning: ``"ids"``: the keys, aligned with the rows; ``"objects"``: persistent
        instances, aligned with the rows, loaded with what was written and not with a SELECT (what
        the database filled in is loaded when asked for).
    :raises InvalidRowsError: rows that cannot be written, each listed; nothing was reserved or
        written.
    :raises SequenceNotFoundError: rows need keys and the class has none that a sequence numbers.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    """
    if returning not in {"ids", "objects"}:
        raise ConfigurationError(f"returning must be 'ids' or 'objects', found {returning!r}")
    mapper = mapper_of(model)
    given: list[Any] = rows if isinstance(rows, list) else list(rows)
    if set(map(type, given)) != {dict}:
        given = [dict(row) if isinstance(row, Mapping) else row for row in given]
    connection = connection_of(session, mapper)
    writing = _Writing(session, connection, mapper, given, progress)
    told = read_only_told(connection, "bulk_insert()", [mapper.class_.__name__])
    with audit.failures_told(log), told, collector_paused(len(given)):
        writing.check()
        keys = writing.reserve()
        writing.write()
    for entry in writing.entries():
        audit.rows_written(log, entry, fallback=entry.writer == "insert")
    if returning == "ids":
        return ReservedIds(keys)
    with collector_paused(len(given)):
        return writing.objects(session() if isinstance(session, scoped_session) else session)


class _Writing:
    """One ``bulk_insert``: the rows, the values that are added to them, and the plans for the
    class's tables.
    """

    def __init__(
        self,
        session: Session | scoped_session[Any],
        connection: Connection,
        mapper: Mapper[Any],
        rows: _Rows,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.session = session
        self.connection = connection
        self.mapper = mapper
        self.rows = rows
        self.progress = progress
        self.used: set[str] = set()
        self.columns: dict[str, Sequence[Any]] = {}
        self.added: dict[str, Sequence[Any]] = {}
        self.batches: list[tuple[InsertPlan, Batch]] = []
        self.reserved: Sequence[int] = ()
        self.inserted: Sequence[int] = ()
        self.refusal: str | None = None
        self.copying = 0.0
        self.inserting = 0.0
        self.source = KeySequence(generated_key(mapper))
        self.tables = [
            table
            for table, _ in host.tables_in_order(mapper.base_mapper)
            if host.writes_to(mapper, table)
        ]
        self.plans: dict[Table, InsertPlan | None] = dict.fromkeys(self.tables)
        self.pinned = False
        self._look()

    def _look(self) -> list[TableFacts]:
        """Plan by what the catalogue is known to say; return what it says of the tables."""
        connection, mapper = self.connection, self.mapper
        self.source = resolve(connection, [mapper])[mapper]
        names = {table: catalogue.table_name(connection, table) for table in self.tables}
        found = catalogue.table_facts(connection, names.values())
        known = []
        for table, name in names.items():
            facts = found[name]
            self.plans[table] = None
            if facts is not None:
                self.plans[table] = insert_plan(mapper, table, facts, connection.dialect)
                known.append(facts)
        return known

    def _pin(self, missing: int) -> list[int]:
        """Lock the tables, compare what is known of them, and take ids; none, with nothing pinned,
        where nothing can be held or compared until the rows are written.
        """
        driver = driver_of(self.connection.dialect)
        if driver is None:
            return []
        state = driver.state(self.connection.connection)
        if state == "autocommit" or (
            state == "open" and not host.sees_the_present(self.connection)
        ):
            return []
        for _ in range(_ATTEMPTS):
            known = self._look()
            if not all(facts.lockable for facts in known) or len(known) < len(self.tables):
                return []
            requests = []
            if self.source.sequence is not None:
                requests.append(IdRequest(self.source, missing))
            taken = take_ids(self.connection, requests, known)
            if taken.holds:
                self.pinned = True
                return taken.ids[0] if requests else []
        return []

    def check(self) -> None:
        """Refuse rows that no INSERT could take, all at once."""
        problems: list[RowProblem] = []
        allowed = {column.key for column in self.mapper.column_attrs}
        required = self._required()
        try:
            self.used = set().union(*self.rows)
            suspicious = not self.used <= allowed or any(
                NoneType in set(map(type, self._values(key))) for key in required
            )
        except (TypeError, AttributeError):
            suspicious = True
        if not suspicious:
            return
        for index, row in enumerate(self.rows):
            if not isinstance(row, Mapping):
                problems.append(
                    RowProblem(index, "-", f"expected a mapping, found {type(row).__name__}")
                )
                continue
            problems += [
                RowProblem(index, str(key), f"{self.mapper.class_.__name__} has no such column")
                for key in row
                if key not in allowed
            ]
            problems += [
                RowProblem(
                    index, key, "has no value, and the column takes no NULL and has no default"
                )
                for key in required
                if row.get(key) is None
            ]
            if len(problems) >= _MOST_PROBLEMS:
                break
        raise InvalidRowsError(
            f"{self.mapper.class_.__name__}: {len({p.index for p in problems})} of "
            f"{len(self.rows)} rows cannot be written; nothing was reserved or written",
            problems,
        )

    def _values(self, attribute: str) -> Sequence[Any]:
        """The values of one attribute, one a row; ``None`` where a row gives none."""
        if attribute not in self.columns:
            self.columns[attribute] = values_of(self.rows, attribute)
        return self.columns[attribute]

    def _required(self) -> list[str]:
        """The attributes that every row must give a value."""
        found = []
        for table in self.tables:
            plan = self.plans[table]
            keys = set(host.key_columns(self.mapper, table))
            if plan is not None:
                found += [
                    column.attribute
                    for column in plan.columns
                    if column.attribute is not None
                    and column.absent is Absent.NULL
                    and not column.column.nullable
                    and column.column not in keys
                    and column.attribute != host.polymorphic_attribute(self.mapper)
                ]
        return found

    def reserve(self) -> list[Any]:
        """Reserve a key for each row that has none; return every row's key, in the order of the
        rows.
        """
        polymorphic = host.polymorphic_attribute(self.mapper)
        if polymorphic is not None:
            identity = self.mapper.polymorphic_identity
            self.added[polymorphic] = [row.get(polymorphic, identity) for row in self.rows]
        key = generated_key(self.mapper)
        missing: Sequence[int] = ()
        keys: list[Any] = []
        if key.column is not None:
            missing = range(len(self.rows))
            if key.attribute in self.used:
                keys = list(self._values(key.attribute))
                missing = [index for index, value in enumerate(keys) if value is None]
        ids = self._pin(len(missing))
        if self.source.sequence is None or not self.pinned:
            attribute = self.mapper.get_property_by_column(self.mapper.primary_key[0]).key
            return list(self._values(attribute))
        self.reserved = missing
        convert = self.source.to_python
        if len(missing) == len(self.rows):
            keys = list(map(convert, ids)) if convert else list(ids)
        else:
            for index, value in zip(missing, ids, strict=True):
                keys[index] = convert(value) if convert else value
        for table in self.tables:
            for column in host.key_columns(self.mapper, table):
                attribute = self.mapper.get_property_by_column(column).key
                if column is key.column or host.inherits_key(self.mapper, column, key.column):
                    self.added[attribute] = keys
        return keys

    def write(self) -> None:
        """Write the rows, table by table."""
        reason = self._no_copy_reason()
        if reason is None and not self.pinned:
            reason = "nothing can be compared in this transaction"
        if reason is not None:
            self._insert(range(len(self.rows)), reason)
            return
        divisions = []
        given = {**self.columns, **self.added}
        for table in self.tables:
            plan = self.plans[table]
            assert plan is not None
            divisions.append((plan, divide(plan, self.rows, self.connection, given)))
        refused = {
            position: reason
            for _, division in divisions
            for reason, positions in division.elsewhere.items()
            for position in positions
        }
        refused |= {
            position: batch.copy_reason
            for _, division in divisions
            for batch in division.batches
            if batch.copy_reason is not None
            for position in batch.positions
        }
        ordered = any(plan.keeps_order for plan, _ in divisions)
        if refused and (len(self.tables) > 1 or (ordered and len(refused) < len(self.rows))):
            # A row goes one way through all of its tables, and an ordered one not out of turn.
            self._insert(range(len(self.rows)), next(iter(refused.values())))
            return
        started = time.perf_counter()
        for plan, division in divisions:
            for batch in division.batches:
                if batch.copy_reason is not None:
                    continue
                last = plan is divisions[-1][0]
                progress = self.progress if last else None
                rows = CopyRows(
                    batch.columns, batch.copy_values, batch.oids, batch.binary, progress, plan.facts
                )
                copy_rows(self.connection, plan.facts.name, rows)
                self.batches.append((plan, batch))
        self.copying = time.perf_counter() - started
        if refused:
            self._insert(sorted(refused), next(iter(refused.values())))

    def _no_copy_reason(self) -> str | None:
        warn_of_driver(self.connection.dialect)
        reason = no_copy_reason(self.connection.dialect)
        for plan in self.plans.values():
            if reason is None:
                reason = (
                    "the database has no such table"
                    if plan is None
                    else refused_types(self.connection, plan)
                )
        return reason

    def _insert(self, positions: Sequence[int], reason: str) -> None:
        """Write rows that COPY does not take by SQLAlchemy's bulk INSERT, with the keys that are
        reserved.
        """
        started = time.perf_counter()
        self.inserted, self.refusal = positions, reason
        rows = [
            {**self.rows[index], **{key: values[index] for key, values in self.added.items()}}
            for index in positions
        ]
        # Only plain values can be sent together.
        plain: list[dict[str, Any]] = []
        expressions: list[dict[str, Any]] = []
        for row in rows:
            (plain if all(map(is_plain, row.values())) else expressions).append(row)
        if plain:
            self.session.execute(insert(self.mapper), plain, execution_options=_NO_AUTOFLUSH)
        for row in expressions:
            self.session.execute(insert(self.mapper).values(row), execution_options=_NO_AUTOFLUSH)
        self.inserting = time.perf_counter() - started
        if self.progress is not None:
            self.progress(len(rows))

    def entries(self) -> Iterator[FlushEntry]:
        """What was written by COPY, and what was not."""
        model, total = self.mapper.class_, len(self.rows)
        inserted, reserved = set(self.inserted), len(self.reserved)
        fallback = len(inserted.intersection(self.reserved))
        if total > len(inserted):
            copied = total - len(inserted)
            yield FlushEntry(model, copied, reserved - fallback, "copy", None, self.copying)
        if inserted:
            yield FlushEntry(model, len(inserted), fallback, "insert", self.refusal, self.inserting)

    def objects(self, session: Session) -> list[Any]:
        """The rows as persistent instances of ``session``."""
        nulls = {
            column.attribute: None
            for plan in self.plans.values()
            if plan is not None
            for column in plan.columns
            if column.attribute is not None and column.absent is Absent.NULL
        }
        added = list(self.added)
        held = [
            {**nulls, **row, **dict(zip(added, values, strict=True))}
            for row, values in zip(self.rows, zip(*self.added.values(), strict=True), strict=True)
        ]
        for plan, batch in self.batches:
            for attribute, filled in batch.defaults.items():
                for position, value in zip(batch.positions, filled.values, strict=True):
                    held[position][attribute] = value
            for attribute, column in plan.source.items():
                if column in batch.omitted:
                    for position in batch.positions:
                        held[position].pop(attribute, None)
        for position in self.inserted:
            # What SQLAlchemy wrote may be an expression, or a default that only it knows.
            row, keys = self.rows[position], {name: held[position][name] for name in added}
            held[position] = {
                **{name: value for name, value in row.items() if is_plain(value)},
                **keys,
            }
        return host.instances_of(session, self.mapper, held)
