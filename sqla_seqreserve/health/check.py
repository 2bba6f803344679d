"""``check_sequences``: checks that every sequence is ahead of its table.

::

    report = check_sequences(session, Base)
    if not report.healthy:
        for entry in report.behind:
            print(entry.table, entry.gap, entry.findings)

The source is a declarative base, a registry, a ``MetaData``, mapped classes (one, or an iterable),
or ``None`` for every sequence in the database, or in the given ``schemas``. Four queries are sent,
some more for given schemas and above 500 sequences. Nothing is written, and no sequence stays
locked, with one exception: a sequence on which the role has USAGE but not SELECT stays locked as by
``nextval``, until the transaction ends.

**Healthy** means that the next value is beyond the largest id of every table that the sequence
fills. Gaps are healthy: reservations, rollbacks and crashes all leave some.

Uncommitted rows of other transactions are not seen, and pending objects of the session are not
flushed. A sequence with ``CACHE`` above 1 gives values to sessions in advance: values that these
still hold are not seen either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError

from ._catalogue import read_sequences
from ._columns import FoundColumn, Wanted, find_columns, find_sequences
from ._connection import Bind, group_by_connection, plain_connection
from ._facts import ColumnFacts, SequenceFacts
from ._judgement import judge, judge_absent
from ._names import label_of, quoted
from ._source import Target, targets_of
from .report import HealthReport, SequenceHealth

__all__ = ["Examined", "check_sequences", "examine", "report_on"]

_log = logging.getLogger("sqla_seqreserve.health")

# Catalogue rows of a sequence that is dropped and recreated are missing only for moments.
_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Examined:
    """An entry of the report, with further facts that a repair needs."""

    connection: Connection
    sequence: SequenceFacts | None
    health: SequenceHealth
    target: Target | None = None


def check_sequences(
    session_or_connection: Bind,
    source: Any,
    *,
    schemas: Sequence[str] | None = None,
    subscriber: bool = False,
) -> HealthReport:
    """Check every sequence of the source; see this module's introduction.

    :param source: declarative base, registry, ``MetaData``, mapped classes; ``None``: the whole
        database.
    :param schemas: with ``source=None``, the schemas to look into; ``None``: all but the system's.
        One that does not exist is refused.
    :param subscriber: expect sequences behind tables that a logical replication fills: they get a
        remark and not the status of needing repair. Ids that this server itself has written still
        count: those of other tables and, with ``track_commit_timestamp``, those among the newest
        1,000 of the replicated tables.
    """
    return report_on(examine(session_or_connection, source, schemas=schemas, subscriber=subscriber))


def report_on(entries: Iterable[Examined]) -> HealthReport:
    """Make the report of a check, and log it."""
    report = HealthReport(
        sequences=tuple(entry.health for entry in entries), checked_at=datetime.now(UTC)
    )
    _tell(report)
    return report


def examine(
    session_or_connection: Bind,
    source: Any,
    *,
    schemas: Sequence[str] | None = None,
    subscriber: bool = False,
    to_write: bool = False,
) -> list[Examined]:
    """Do the work of a check, and keep the facts that were read.

    ``to_write``: use the connections that the session uses for INSERTs.
    """
    if isinstance(schemas, str):
        raise ConfigurationError(f"schemas: expected a sequence of names, got the name {schemas!r}")
    if source is None:
        connection = plain_connection(session_or_connection, to_write=to_write)
        return _examine_database(connection, schemas, subscriber)
    if schemas is not None:
        raise ConfigurationError(
            "schemas narrows a check of the whole database (source=None); models name their own"
        )
    return [
        entry
        for connection, targets in group_by_connection(
            session_or_connection, targets_of(source), to_write=to_write
        )
        for entry in _examine_models(connection, targets, subscriber)
    ]


def _examine_database(
    connection: Connection, schemas: Sequence[str] | None, subscriber: bool
) -> list[Examined]:
    facts = read_sequences(connection, find_sequences(connection, schemas), subscriber=subscriber)
    drawn_from = {
        (column.table_oid, column.attnum): sequence.label
        for sequence in facts.values()
        for column in sequence.columns
        if column.defaults
    }

    def health(sequence: SequenceFacts, column: ColumnFacts | None) -> SequenceHealth:
        elsewhere = None
        if column is not None and not column.defaults:
            elsewhere = drawn_from.get((column.table_oid, column.attnum))
        return judge(sequence, column, drawn_from=elsewhere, subscriber=subscriber)

    return _ordered(
        Examined(connection, sequence, health(sequence, column))
        for sequence in facts.values()
        for column in sequence.columns or (None,)
    )


def _examine_models(
    connection: Connection, targets: list[Target], subscriber: bool
) -> list[Examined]:
    translate = connection.get_execution_options().get("schema_translate_map") or {}
    wanted = [_wanted(target, translate) for target in targets]
    found, resolved, facts = _look(connection, targets, wanted, subscriber=subscriber)
    entries: dict[tuple[int, int, int], Examined] = {}
    absent: list[Examined] = []
    for target, names, column, oid in zip(targets, wanted, found, resolved, strict=True):
        if oid in facts and column.table_oid is not None and column.attnum is not None:
            key = (column.table_oid, column.attnum, oid)
            entries.setdefault(
                key, _entry(connection, target, column, facts, oid, subscriber=subscriber)
            )
        elif (health := _absence(target, names, column)) is not None:
            absent.append(Examined(connection, None, health, target))
    return _ordered([*entries.values(), *absent])


def _look(
    connection: Connection, targets: list[Target], wanted: list[Wanted], *, subscriber: bool
) -> tuple[list[FoundColumn], list[int | None], dict[int, SequenceFacts]]:
    """Find the columns and read their sequences; repeat if DDL dropped one in between."""
    for _ in range(_LOOKS):
        found = find_columns(connection, wanted)
        resolved = [_resolve(target, column) for target, column in zip(targets, found, strict=True)]
        facts = read_sequences(
            connection,
            {
                oid
                for column, oid in zip(found, resolved, strict=True)
                for oid in (oid, *_others(column))
                if oid is not None
            },
            (
                (oid, column.table_oid, column.attnum, column.default_sequence == oid)
                for column, oid in zip(found, resolved, strict=True)
                if oid is not None and column.table_oid is not None and column.attnum is not None
            ),
            subscriber=subscriber,
        )
        if all(oid is None or oid in facts for oid in resolved):
            break
    return found, resolved, facts


def _others(column: FoundColumn) -> tuple[int | None, ...]:
    """Return the other sequences that may number the column, for a finding that names them."""
    identity = column.owned_sequence if column.identity else None
    return column.default_sequence, column.default_declared_sequence, identity


def _wanted(target: Target, translate: dict[str | None, str | None]) -> Wanted:
    def schema(name: str | None) -> str | None:
        return translate.get(name, name)

    declared, default = target.sequence, target.default_sequence
    return Wanted(
        schema=schema(target.table.schema),
        table=target.table.name,
        column=target.column.name,
        sequence_schema=schema(declared.schema) if declared is not None else None,
        sequence=declared.name if declared is not None else None,
        default_schema=schema(default.schema) if default is not None else None,
        default=default.name if default is not None else None,
    )


def _resolve(target: Target, column: FoundColumn) -> int | None:
    """Choose the column's sequence: the model's, else identity or owned, else the default's."""
    if target.sequence is not None:
        return column.declared_sequence
    return column.owned_sequence or column.default_sequence or column.default_declared_sequence


def _entry(
    connection: Connection,
    target: Target,
    column: FoundColumn,
    facts: dict[int, SequenceFacts],
    oid: int,
    *,
    subscriber: bool,
) -> Examined:
    sequence = facts[oid]
    elsewhere = column.default_sequence if column.default_sequence != oid else None
    if column.default_sequence is None and column.identity and column.owned_sequence != oid:
        elsewhere = column.owned_sequence
    if elsewhere is None and column.default_declared_sequence not in (None, oid):
        # The column is filled from one sequence, and the model's server default names another.
        elsewhere = column.default_declared_sequence
    drawn_from = facts[elsewhere].label if elsewhere in facts else None
    return Examined(
        connection,
        sequence,
        judge(
            sequence,
            _column_of(sequence, column),
            target,
            identity=column.identity,
            drawn_from=drawn_from,
            subscriber=subscriber,
        ),
        target,
    )


def _column_of(sequence: SequenceFacts, found: FoundColumn) -> ColumnFacts | None:
    for column in sequence.columns:
        if (column.table_oid, column.attnum) == (found.table_oid, found.attnum):
            return column
    # A partition, or an inheriting table: its rows were read with its parent's.
    return sequence.columns[0] if sequence.columns else None


def _absence(target: Target, names: Wanted, column: FoundColumn) -> SequenceHealth | None:
    table_found = column.attnum is not None
    if table_found and not target.required and not _assumed(target):
        return None
    is_view = column.relkind not in (None, "r", "p")
    if is_view and target.sequence is None:
        # A view or a foreign table: its ids are made elsewhere, whatever the model says of them.
        # Only a Sequence is asked for values by SQLAlchemy itself.
        return None
    sequence = names.sequence or names.default
    schema = names.sequence_schema if names.sequence else names.default_schema
    return judge_absent(
        column.label or _named(names.schema, names.table),
        quoted(names.column),
        sequence=_named(schema, sequence) if sequence else None,
        database=column.database,
        schema=column.schema or names.schema,
        table_found=table_found,
        required=target.required,
        is_view=is_view,
    )


def _named(schema: str | None, name: str) -> str:
    return label_of(schema or "", name, visible=not schema)


def _assumed(target: Target) -> bool:
    """Whether SQLAlchemy itself would leave the column out of an INSERT."""
    return target.table.autoincrement_column is target.column


def _ordered(entries: Iterable[Examined]) -> list[Examined]:
    return sorted(
        entries,
        key=lambda e: (
            e.health.table is None,
            e.health.table or "",
            e.health.column or "",
            e.health.sequence or "",
        ),
    )


def _tell(report: HealthReport) -> None:
    unhealthy = [entry for entry in report.sequences if not entry.is_healthy]
    audit.emit(
        _log,
        logging.WARNING if unhealthy else logging.INFO,
        "sequences_checked",
        "checked %d sequence%s, %d healthy%s",
        len(report.sequences),
        "" if len(report.sequences) == 1 else "s",
        len(report.sequences) - len(unhealthy),
        "".join(
            f"; {e.sequence or e.table} {e.status}{f', {e.gap} behind' if e.gap else ''}"
            for e in unhealthy[:10]
        ),
        sequences=len(report.sequences),
        healthy=report.healthy,
        unhealthy_sequences=[entry.sequence or entry.table for entry in unhealthy],
        largest_gap=max((entry.gap for entry in report.sequences), default=0),
    )
