"""``repair_sequences``: move what is behind its table forward, and never anything back.

::

    repair_sequences(session, Base)                  # then session.commit(), as ever
    repair_sequences(session, Base, dry_run=True)    # what would be done

**Why no sequence can move back.** ``nextval`` takes no lock on the table, so "read the sequence, then
``setval``" may undo what other sessions drew in between, whatever lock is held on the table. Hence:

1. Under ``LOCK TABLE ... IN SHARE ROW EXCLUSIVE MODE``, which keeps the table's writers out, the maximum
   is read, and the sequence is *drawn from* with ``nextval`` until it is beyond. Whoever draws at the
   same time only adds to that.
2. A distance too long to draw is first jumped with ``setval``, while a lock **on the sequence** keeps
   every ``nextval`` out between the reading and the move. ``LOCK TABLE`` refuses sequences;
   ``ALTER SEQUENCE ... OWNER TO`` its present owner takes the lock and changes nothing. (Most other
   forms write the sequence to a new file, and a ``setval`` would be lost with it.)

**Why it cannot deadlock.** Writers lock table and sequence in both orders: a plain INSERT the table
first, a reservation the sequence. So these two locks are never held together, nor those of two tables.
Each is taken inside a savepoint that is rolled back as soon as the move is done, which releases the
lock. ``nextval`` and ``setval`` are not undone by a rollback, so the move stays. For the same reason it
stays when the caller's transaction is rolled back, leaving a gap at most, which is healthy.

Two repairs take the tables in the same order, and a repair of a healthy source takes no lock. A lock
not granted within ``lock_timeout`` raises ``LockTimeoutError``; the transaction stays usable, the
sequences repaired before that one stay repaired, and the repair can be called again.

Sequences with ``CACHE`` above 1: sessions hand out the values that they hold before they see the
move. Let them reconnect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqla_seqreserve.errors import ConfigurationError

from ._connection import Bind
from ._facts import SequenceFacts, type_bounds
from ._moving import SequenceMover
from .check import Examined, examine
from .report import RepairReport, RepairResult

__all__ = ["repair_sequences"]

_log = logging.getLogger(__name__)


def repair_sequences(
    session_or_connection: Bind,
    source: Any,
    *,
    dry_run: bool = False,
    headroom: int = 0,
    lock_timeout: float = 5.0,
    schemas: Sequence[str] | None = None,
) -> RepairReport:
    """Move every sequence of the source that is behind beyond its tables; see this module's head.

    :param source: as for :func:`~.check.check_sequences`.
    :param dry_run: only say what would be done; takes no lock.
    :param headroom: values to leave out beyond the largest id, for importers still under way.
    :param lock_timeout: seconds to wait for each table and each sequence.
    """
    if type(headroom) is not int or headroom < 0:
        raise ConfigurationError(
            f"headroom: expected a whole number of 0 or more, got {headroom!r}"
        )
    if not lock_timeout > 0:
        raise ConfigurationError(f"lock_timeout: expected seconds above 0, got {lock_timeout!r}")
    entries = examine(session_or_connection, source, schemas=schemas)
    done: dict[tuple[int, int], _Outcome] = {}
    results: list[RepairResult] = []
    for entry in entries:
        sequence = entry.sequence
        if sequence is None or not entry.health.gap:
            results.append(_untouched(entry))
            continue
        # Tables that share a sequence share its repair.
        key = (id(entry.connection), sequence.oid)
        if key not in done:
            done[key] = _repair(entry, sequence, headroom, lock_timeout, dry_run=dry_run)
        results.append(_result(entry, sequence, done[key], dry_run=dry_run))
        _log_result(results[-1])
    report = RepairReport(results=tuple(results), dry_run=dry_run, repaired_at=datetime.now(UTC))
    _log_report(report)
    return report


# Where the sequence stands after the repair, or why it was not repaired.
_Outcome = tuple[int | None, str | None]


def _repair(
    entry: Examined,
    sequence: SequenceFacts,
    headroom: int,
    lock_timeout: float,
    *,
    dry_run: bool,
) -> _Outcome:
    last = sequence.value_after(sequence.gap_to(sequence.edge) + headroom)
    bounds = [type_bounds(column.type_name) for column in sequence.columns]
    following = None if last is None else last + sequence.increment
    if (
        last is None
        or following is None
        or not sequence.minimum <= following <= sequence.maximum
        or any(not low <= following <= high for low, high in bounds)
    ):
        return None, (
            f"beyond {sequence.edge} there is no value that {sequence.label} may hand out and its "
            "column can hold: widen both to bigint, or remove the outlying ids"
        )
    if dry_run:
        return last, None
    mover = SequenceMover(entry.connection, sequence, headroom=headroom, lock_timeout=lock_timeout)
    return mover.move()


def _untouched(entry: Examined) -> RepairResult:
    health = entry.health
    stuck = health.status in ("NEEDS_REPAIR", "UNREADABLE")
    return RepairResult(
        table=health.table,
        column=health.column,
        sequence=health.sequence,
        action="NOT_REPAIRABLE" if stuck else "HEALTHY",
        old_value=health.last_value,
        new_value=health.last_value,
        gap_fixed=0,
        table_max_id=health.table_max_id,
        reason="; ".join(f"{f.message}: {f.remedy}" for f in health.findings if f.severity != "LOW")
        if stuck
        else None,
    )


def _result(
    entry: Examined, sequence: SequenceFacts, outcome: _Outcome, *, dry_run: bool
) -> RepairResult:
    new_value, reason = outcome
    health = entry.health
    return RepairResult(
        table=health.table,
        column=health.column,
        sequence=health.sequence,
        action="NOT_REPAIRABLE" if reason else "WOULD_REPAIR" if dry_run else "REPAIRED",
        old_value=sequence.last_value,
        new_value=sequence.last_value if reason else new_value,
        gap_fixed=0 if reason else health.gap,
        table_max_id=health.table_max_id,
        reason=reason,
    )


def _log_result(result: RepairResult) -> None:
    _log.warning(
        "%s of %s.%s: %s, %s to %s%s",
        result.sequence,
        result.table,
        result.column,
        result.action,
        result.old_value,
        result.new_value,
        f" ({result.reason})" if result.reason else "",
        extra={
            "event": "sequence_repair",
            "table": result.table,
            "sequence": result.sequence,
            "action": result.action,
            "old_value": result.old_value,
            "new_value": result.new_value,
            "gap_fixed": result.gap_fixed,
            "reason": result.reason,
        },
    )


def _log_report(report: RepairReport) -> None:
    _log.info(
        "repair of %d sequences: %d moved%s",
        len(report.results),
        len(report.repaired),
        " (dry run)" if report.dry_run else "",
        extra={
            "event": "sequences_repaired",
            "sequences": len(report.results),
            "sequences_repaired": len(report.repaired),
            "repair_completed": report.repair_completed,
            "dry_run": report.dry_run,
        },
    )
