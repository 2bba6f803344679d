"""Derives findings and a status from the facts (no I/O)."""

from __future__ import annotations

from dataclasses import replace

from ._facts import Blindness, ColumnFacts, SequenceFacts
from ._model import identity_kind, shape
from ._names import literal, quoted
from ._room import exhausted, room, widening, widening_sql
from ._servers import coordinator_only, replication
from ._source import Target
from .report import Finding, Privileges, SequenceHealth, Severity, Status, worst

# What a column's default and its sequence's owner say something of; a view's ids are its tables'.
_TABLES = frozenset({"r", "p", "f"})


def severity_of(gap: int) -> Severity:
    """Return the severity of being behind by ``gap`` ids."""
    if gap <= 10:
        return "LOW"
    return "MEDIUM" if gap <= 100 else "HIGH"


def judge(
    sequence: SequenceFacts,
    column: ColumnFacts | None,
    target: Target | None = None,
    *,
    identity: str = "",
    drawn_from: str | None = None,
    subscriber: bool = False,
) -> SequenceHealth:
    """Judge a sequence as the source of one column's ids, against every column it fills.

    ``drawn_from`` names the sequence that the column's default really uses, if it is another one.
    ``subscriber``: a sequence behind a table that a subscription fills is expected.
    """
    blind = _blindness(sequence)
    gap = sequence.gap_to(sequence.edge)
    replicated = replication(sequence, column, gap, expected=subscriber)
    if subscriber and any(c.subscribed for c in sequence.columns):
        gap = sequence.gap_to(sequence.own_edge)
    spent = exhausted(sequence, column)
    findings = [
        *_behind(sequence, column, gap),
        *replicated,
        *coordinator_only(sequence),
        *blind,
        *spent,
        *room(sequence, column, already=bool(spent)),
        *_settings(sequence),
        *_wiring(sequence, column, target, identity, drawn_from),
        *shape(sequence, target),
        *identity_kind(column, target, identity),
        *_sharing(sequence, column),
        *_not_compared(sequence, column),
    ]
    status: Status
    if spent:
        status = "EXHAUSTED"
    elif gap:
        status = "NEEDS_REPAIR"
    elif blind:
        status = "UNREADABLE"
    elif any(finding.severity != "LOW" for finding in findings):
        status = "WARNING"
    else:
        status = "OK"
    return SequenceHealth(
        table=column.label if column else None,
        column=column.name if column else None,
        sequence=sequence.label,
        last_value=sequence.last_value,
        next_value=None if spent else sequence.next_value,
        table_max_id=column.edge if column else None,
        is_healthy=status in ("OK", "WARNING"),
        gap=gap,
        status=status,
        severity=severity_of(gap) if gap else worst(finding.severity for finding in findings),
        used_fraction=sequence.used_fraction(column),
        findings=tuple(findings),
        database=sequence.database,
        schema=column.schema if column else sequence.schema,
        lacking=_lacking(sequence),
        ids_left=0 if spent else sequence.ids_left(column),
        more_ids=None if sequence.cycle else widening(sequence, column),
        more_ids_sql=None if sequence.cycle else widening_sql(sequence, column),
    )


def judge_absent(
    table: str,
    column: str,
    *,
    sequence: str | None,
    table_found: bool,
    required: bool,
    database: str | None = None,
    schema: str | None = None,
    is_view: bool = False,
) -> SequenceHealth:
    """Judge a column whose table, or whose sequence, the database does not have."""
    status: Status
    if not table_found:
        finding = Finding(
            "TABLE_MISSING",
            "HIGH",
            f"the database has no {table}.{column}, or the role may not see its schema",
            "run the migrations, or look at search_path and the role's privileges",
        )
        status = "UNREADABLE"
    elif required:
        named = f"the sequence {sequence}" if sequence else "a sequence"
        finding = Finding(
            "MISSING",
            "HIGH",
            f"the model fills {table}.{column} from {named}, which the database does not have",
            "create the sequence in a migration, or leave it out of the model of a view"
            if is_view
            else "create the sequence in a migration, owned by the column, with a nextval default",
        )
        status = "NEEDS_REPAIR"
    else:
        finding = Finding(
            "MISSING",
            "MEDIUM",
            f"{table}.{column} has no sequence, though its model leaves its values to the database",
            "create a sequence for it, or set autoincrement=False where the application sets ids",
        )
        status = "WARNING"
    return SequenceHealth(
        table=table,
        column=column,
        sequence=sequence,
        last_value=None,
        next_value=None,
        table_max_id=None,
        is_healthy=status == "WARNING",
        gap=0,
        status=status,
        severity=finding.severity,
        used_fraction=None,
        findings=(finding,),
        database=database,
        schema=schema,
    )


def _blind(sequence: SequenceFacts) -> list[Blindness]:
    found = (sequence.blind, *(column.blind for column in sequence.columns))
    return [blind for blind in found if blind is not None]


def _lacking(sequence: SequenceFacts) -> Privileges | None:
    lacking = Privileges.together(b.privileges for b in _blind(sequence) if b.privileges)
    return lacking and replace(lacking, role=quoted(sequence.role))


def _blindness(sequence: SequenceFacts) -> list[Finding]:
    return [
        Finding(
            "UNREADABLE",
            "MEDIUM",
            f"could not tell: {blind.reason}",
            blind.remedy,
            replace(blind.privileges, role=quoted(sequence.role)).sql if blind.privileges else None,
        )
        for blind in _blind(sequence)
    ]


def _behind(sequence: SequenceFacts, column: ColumnFacts | None, gap: int) -> list[Finding]:
    if not gap:
        return []
    edge = next(
        (e for e in (sequence.edge, sequence.own_edge) if sequence.gap_to(e) == gap), sequence.edge
    )
    furthest = next((c for c in sequence.columns if edge in (c.edge, c.local_edge)), column)
    where = furthest.place if furthest else "its table"
    remedy = "repair_sequences(), or the command `sqla-seqreserve repair`"
    if (left := sequence.room_beyond(sequence.edge)) < gap:
        remedy += (
            f"; it would leave {left} values, so look first whether --dry-run names ids far ahead "
            "of all others"
        )
    return [
        Finding(
            "BEHIND",
            severity_of(gap),
            f"{sequence.label} hands out {sequence.next_value} next, and {where} already reaches "
            f"{edge}: {gap} id{'' if gap == 1 else 's'} behind",
            remedy,
        )
    ]


def _settings(sequence: SequenceFacts) -> list[Finding]:
    findings: list[Finding] = []
    if sequence.cycle:
        findings.append(
            Finding(
                "CYCLE",
                "MEDIUM",
                f"{sequence.label} is set to CYCLE: after its last value it hands out old ids",
                f"ALTER SEQUENCE {sequence.label} NO CYCLE",
                f"ALTER SEQUENCE {sequence.label} NO CYCLE",
            )
        )
    if sequence.cache > 1:
        findings.append(
            Finding(
                "CACHED",
                "LOW",
                f"{sequence.label} has CACHE {sequence.cache}: sessions hold values of their own, "
                "which no check sees and no repair takes back",
                "reconnect the application's sessions after a repair, or set CACHE 1",
                f"ALTER SEQUENCE {sequence.label} CACHE 1",
            )
        )
    return findings


def _wiring(
    sequence: SequenceFacts,
    column: ColumnFacts | None,
    target: Target | None,
    identity: str,
    drawn_from: str | None,
) -> list[Finding]:
    if column is None:
        return [
            Finding(
                "UNUSED",
                "LOW",
                f"no column is filled from {sequence.label}",
                "nothing, if the application asks it for values itself",
            )
        ]
    place = column.place
    set_default = (
        f"ALTER TABLE {column.label} ALTER {column.name} SET DEFAULT "
        f"nextval({literal(sequence.label)})"
    )
    findings: list[Finding] = []
    if drawn_from is not None:
        said = f"{place} belongs to {sequence.label}, and its default draws from {drawn_from}"
        remedy = f"point the default at {sequence.label}, or the model at {drawn_from}"
        if identity:
            said = f"{place} is an identity, numbered by {drawn_from}; its model names another"
            remedy = f"leave {sequence.label} out of the model"
        # A sequence that is behind is repaired first, or the default would hand out ids twice.
        safe = not identity and not sequence.gap_to(sequence.edge)
        findings.append(
            Finding("DEFAULT_ELSEWHERE", "HIGH", said, remedy, set_default if safe else None)
        )
    elif column.kind in _TABLES and not column.defaults and not identity:
        expected = target is None or target.server_nextval or target.identity is not None
        findings.append(
            Finding(
                "DEFAULT_MISSING",
                "MEDIUM" if expected else "LOW",
                f"{place} has no default that draws from {sequence.label}: an INSERT "
                "without the id fails",
                set_default,
                set_default,
            )
        )
    # A sequence that several columns share outlives each of them, so it must not be dropped or
    # restarted with one: TRUNCATE .. RESTART IDENTITY of its owner would set it back under the
    # others.
    alone = len(sequence.columns) == 1
    if column.kind in _TABLES and alone and not column.owns:
        owned_by = f"ALTER SEQUENCE {sequence.label} OWNED BY {place}"
        findings.append(
            Finding(
                "NOT_OWNED",
                "LOW",
                f"no column owns {sequence.label}: it outlives {place}, and reset "
                "helpers pass it over",
                f"if nothing else is filled from it: {owned_by}",
                owned_by if column.may_own else None,
            )
        )
    return findings


def _not_compared(sequence: SequenceFacts, column: ColumnFacts | None) -> list[Finding]:
    if column is None or column.comparable:
        return []
    why = (
        f"its default computes them from {sequence.label}"
        if column.computed
        else f"they are of type {column.type_name}"
    )
    return [
        Finding(
            "NOT_COMPARED",
            "LOW",
            f"the values of {column.place} are not compared with {sequence.label}: {why}",
            "nothing, if the sequence was never set back and no values were imported",
        )
    ]


def _sharing(sequence: SequenceFacts, column: ColumnFacts | None) -> list[Finding]:
    others = [
        c.place
        for c in sequence.columns
        if column is None or (c.table_oid, c.attnum) != (column.table_oid, column.attnum)
    ]
    if not others or column is None:
        return []
    return [
        Finding(
            "SHARED",
            "LOW",
            f"{sequence.label} also fills {', '.join(others)}, and is judged against all of them",
            "nothing, if that is meant",
        )
    ]
