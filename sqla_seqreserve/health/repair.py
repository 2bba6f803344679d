"""``repair_sequences``: move what is behind its table forward, and never anything back.

::

    repair_sequences(session, Base)                  # then session.commit(), as ever
    repair_sequences(session, Base, dry_run=True)    # what would be done

**Why no sequence can move back.** ``nextval`` takes no lock on the table, so "read the sequence,
then ``setval``" may undo what other sessions drew in between, whatever lock is held on the
table. Hence the move is made under a lock **on the sequence**, which keeps every ``nextval`` out
between the reading and the ``setval``. ``LOCK TABLE`` refuses sequences; ``ALTER SEQUENCE ...
OWNER TO`` its present owner takes the lock and changes nothing. (Other forms write the sequence
to a new file, which a rollback discards, and a ``setval`` with it.) Drawing with ``nextval`` up
to the maximum would need no such lock, but whoever reserves meanwhile would be handed ids from
among those that the table holds.

**Why no id is overlooked.** A repair ends with a look under ``LOCK TABLE ... IN SHARE ROW
EXCLUSIVE MODE``: with the table's writers kept out, the maximum is read, and the sequence must
be beyond. If ids were imported since the move, it is moved again.

**Why it cannot deadlock.** Writers lock table and sequence in both orders: a plain INSERT the
table first, a reservation the sequence. So these two locks are never held together, nor those of
two tables. Each is taken inside a savepoint that is rolled back as soon as its work is done,
which releases the lock. ``setval`` is not undone by a rollback, so the move stays. For the same
reason it stays when the caller's transaction is rolled back, leaving a gap at most, which is
healthy.

Two repairs take the sequences in the same order and their turns at each, by an advisory lock
that lasts as long as the transaction; a repair of a healthy source takes no lock. The others are
asked for a moment at a time, so that writers do not pile up behind the repair while a long
transaction is in its way. If none was granted within ``lock_timeout`` it raises
``LockTimeoutError``; the transaction stays usable, the sequences repaired before that one stay
repaired, and the repair can be called again.

**What it does not spend.** Where a few ids stand far ahead of all others, near the end of their
type, a move beyond them could leave less than it passes over. Such a sequence is not moved; the
result names the ids (:class:`~.report.OutlyingIds`), in a dry run too. ``allow_exhaustion=True``
moves it.

Sequences with ``CACHE`` above 1: sessions hand out the values that they hold before they see the
move. Let them reconnect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError

from ._connection import Bind
from ._facts import SequenceFacts
from ._moving import Outcome, SequenceMover, refused_to_role
from ._outliers import beyond_headroom, find_outliers, nothing_beyond, reason_of
from ._servers import refusal
from .check import Examined, examine
from .report import RepairAction, RepairReport, RepairResult

__all__ = ["repair_examined", "repair_sequences"]

_log = logging.getLogger("sqla_seqreserve.health")


def repair_sequences(
    session_or_connection: Bind,
    source: Any,
    *,
    dry_run: bool = False,
    headroom: int = 0,
    lock_timeout: float = 5.0,
    schemas: Sequence[str] | None = None,
    allow_exhaustion: bool = False,
) -> RepairReport:
    """Move every sequence of the source that is behind beyond its tables; see this module's
    introduction.

    :param source: as for :func:`~.check.check_sequences`.
    :param dry_run: only say what would be done, by the rights of the role too; take no lock.
    :param headroom: number of values to skip beyond the largest id, for imports that are still
        running.
    :param lock_timeout: seconds to wait for each table and each sequence.
    :param allow_exhaustion: also move a sequence beyond a few ids far ahead of all others, if that
        leaves it fewer values than it passes over.
    """
    if type(headroom) is not int or headroom < 0:
        raise ConfigurationError(
            f"headroom: expected a whole number of 0 or more, got {headroom!r}"
        )
    if not lock_timeout > 0:
        raise ConfigurationError(f"lock_timeout: expected seconds above 0, got {lock_timeout!r}")
    return repair_examined(
        examine(session_or_connection, source, schemas=schemas, to_write=True),
        dry_run=dry_run,
        headroom=headroom,
        lock_timeout=lock_timeout,
        allow_exhaustion=allow_exhaustion,
    )


def repair_examined(
    entries: Sequence[Examined],
    *,
    dry_run: bool = False,
    headroom: int = 0,
    lock_timeout: float = 5.0,
    allow_exhaustion: bool = False,
) -> RepairReport:
    """Repair what a check has found; the results are in the order of its entries."""
    outcomes: dict[tuple[int, int], Outcome] = {}
    # In the order of the oids, which search_path does not change; it does change the report's
    # order.
    for entry in sorted(entries, key=lambda e: e.sequence.oid if e.sequence else 0):
        key = _key(entry)
        # Tables that share a sequence share its repair.
        if entry.sequence is not None and entry.health.gap and key not in outcomes:
            outcomes[key] = _repair(
                entry,
                entry.sequence,
                headroom,
                lock_timeout,
                dry_run=dry_run,
                allow_exhaustion=allow_exhaustion,
            )
            _tell_result(_result(entry, outcomes[key], dry_run=dry_run))
    results = tuple(_result(entry, outcomes.get(_key(entry)), dry_run=dry_run) for entry in entries)
    report = RepairReport(results, dry_run, datetime.now(UTC), headroom)
    _tell_report(report)
    return report


def _repair(
    entry: Examined,
    sequence: SequenceFacts,
    headroom: int,
    lock_timeout: float,
    *,
    dry_run: bool,
    allow_exhaustion: bool,
) -> Outcome:
    if (reason := refusal(sequence)) is not None:
        return Outcome(reason=reason)
    for column in sequence.columns:
        if column.failure is not None and column.blind is not None:
            return Outcome(reason=f"{column.blind.reason}: {column.blind.remedy}")
    room = sequence.room_beyond(sequence.edge)
    if 0 < room <= headroom:
        # With it, any ids would look as if they stood far ahead.
        return Outcome(reason=beyond_headroom(sequence, headroom, room))
    if not allow_exhaustion:
        found = find_outliers(entry.connection, sequence, sequence.edge, headroom)
        if found is not None:
            return Outcome(reason=reason_of(sequence, found), outlying=found)
    last = sequence.value_after(sequence.gap_to(sequence.edge) + headroom)
    if last is None or not room:
        return Outcome(reason=nothing_beyond(sequence))
    if dry_run:
        refused = refused_to_role(entry.connection, sequence)
        return Outcome(last) if refused is None else Outcome(reason=refused)
    mover = SequenceMover(
        entry.connection,
        sequence,
        headroom=headroom,
        lock_timeout=lock_timeout,
        allow_exhaustion=allow_exhaustion,
    )
    return mover.move()


def _key(entry: Examined) -> tuple[int, int]:
    return id(entry.connection), entry.sequence.oid if entry.sequence else 0


def _result(entry: Examined, outcome: Outcome | None, *, dry_run: bool) -> RepairResult:
    health = entry.health
    action: RepairAction
    new_value, reason = (outcome.value, outcome.reason) if outcome else (None, None)
    if outcome is None:
        action = "HEALTHY"
        if health.status in ("NEEDS_REPAIR", "EXHAUSTED", "UNREADABLE"):
            action = "NOT_REPAIRABLE"
            reason = _reason_of(entry)
    elif reason is not None:
        action = "NOT_REPAIRABLE"
    else:
        action = "WOULD_REPAIR" if dry_run else "REPAIRED"
    moved = action in ("WOULD_REPAIR", "REPAIRED")
    return RepairResult(
        table=health.table,
        column=health.column,
        sequence=health.sequence,
        action=action,
        old_value=health.last_value,
        new_value=new_value if moved else health.last_value,
        gap_fixed=health.gap if moved else 0,
        table_max_id=health.table_max_id,
        reason=reason,
        outlying=outcome.outlying if outcome else None,
        unreadable=health.status == "UNREADABLE",
    )


def _reason_of(entry: Examined) -> str:
    """Say what is wrong with a sequence that a repair does not help, and what to do about it."""
    remedies: dict[str, list[str]] = {}
    for finding in entry.health.findings:
        if finding.severity != "LOW":
            unseen = finding.code == "UNREADABLE" and finding.sql is not None
            remedy = entry.sequence.mender if unseen and entry.sequence else finding.remedy
            remedies.setdefault(remedy, []).append(finding.message)
    return "; ".join(f"{'; '.join(said)}: {remedy}" for remedy, said in remedies.items())


def _tell_result(result: RepairResult) -> None:
    audit.emit(
        _log,
        logging.INFO if result.action == "WOULD_REPAIR" else logging.WARNING,
        "sequence_repair",
        "%s of %s.%s: %s, %s to %s%s",
        result.sequence,
        result.table,
        result.column,
        result.action,
        result.old_value,
        result.new_value,
        f" ({result.reason})" if result.reason else "",
        table=result.table,
        column=result.column,
        sequence=result.sequence,
        action=result.action,
        old_value=result.old_value,
        new_value=result.new_value,
        gap_fixed=result.gap_fixed,
        reason=result.reason,
    )


def _tell_report(report: RepairReport) -> None:
    left = not report.repair_completed and not report.dry_run
    audit.emit(
        _log,
        logging.WARNING if left else logging.INFO,
        "sequences_repaired",
        "repair of %d sequence%s: %d moved%s%s",
        len(report.results),
        "" if len(report.results) == 1 else "s",
        len(report.repaired),
        " (dry run)" if report.dry_run else "",
        "; some could not be repaired" if left else "",
        sequences=len(report.results),
        sequences_repaired=len(report.repaired),
        repair_completed=report.repair_completed,
        dry_run=report.dry_run,
    )
