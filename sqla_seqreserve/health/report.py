"""The reports of a check and a repair: frozen values, each with a ``to_dict()`` for JSON.

A :class:`SequenceHealth` describes one column and the sequence that fills it. Its ``status`` is

``OK``
    the next value is beyond the table's largest id.
``NEEDS_REPAIR``
    it is not: inserts fail now, or will. A repair helps; it does not create a missing sequence.
``EXHAUSTED``
    no value is left, or none that the column can hold: inserts fail now, and only a wider type,
    or a wider bound of the sequence, helps.
``WARNING``
    healthy today, with a finding of severity ``MEDIUM`` or above.
``UNREADABLE``
    the database did not allow the check; nothing is claimed.

Findings of severity ``LOW`` are remarks: they are listed and leave the status at ``OK``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "Finding",
    "FindingCode",
    "HealthReport",
    "OutlyingIds",
    "Privileges",
    "Refusal",
    "RepairAction",
    "RepairReport",
    "RepairResult",
    "SequenceHealth",
    "Severity",
    "Status",
    "worst",
]

JSON_VERSION = 1
"""The version of the JSON of checks, repairs and alerts: raised when a key is removed or changes
its meaning.
"""

Severity = Literal["LOW", "MEDIUM", "HIGH"]
"""How bad a finding is; for a gap: up to 10 ids, up to 100, more."""

Status = Literal["OK", "NEEDS_REPAIR", "EXHAUSTED", "WARNING", "UNREADABLE"]
"""The verdict on a sequence: see this module's introduction."""

RepairAction = Literal["HEALTHY", "REPAIRED", "WOULD_REPAIR", "NOT_REPAIRABLE"]
"""What a repair did; ``WOULD_REPAIR`` in a dry run."""

FindingCode = Literal[
    "BEHIND",
    "CACHED",
    "COORDINATOR_ONLY",
    "CYCLE",
    "CYCLE_DIFFERS",
    "DEFAULT_ELSEWHERE",
    "DEFAULT_MISSING",
    "EXHAUSTED",
    "IDENTITY_DIFFERS",
    "INCREMENT_DIFFERS",
    "MISSING",
    "NEAR_EXHAUSTION",
    "NOT_COMPARED",
    "NOT_OWNED",
    "NOT_REPLICATED",
    "NOT_SYNCHRONISED",
    "REPLICATED",
    "SHARED",
    "START_DIFFERS",
    "TABLE_MISSING",
    "TYPE_DIFFERS",
    "UNREADABLE",
    "UNUSED",
]
"""The subject of a finding; its message and remedy explain it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a sequence, and its remedy.

    :attr:`sql`: statements that apply the remedy, ready to paste; ``None`` if statements alone do
    not suffice, or could do harm.
    """

    code: FindingCode
    severity: Severity
    message: str
    remedy: str
    sql: str | None = None


@dataclass(frozen=True, slots=True)
class Privileges:
    """The privileges that a role lacks for a full check: SELECT on relations, tables and sequences
    alike, and USAGE on their schemas.
    """

    relations: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    role: str = ""

    @property
    def remedy(self) -> str:
        """The remedy, in words."""
        return "check with a role that may read it, or grant this one SELECT"

    @property
    def sql(self) -> str:
        """The statements: one, and another for a schema without USAGE."""
        statements = [f"GRANT SELECT ON {', '.join(self.relations)} TO {self.role}"]
        if self.schemas:
            statements.append(f"GRANT USAGE ON SCHEMA {', '.join(self.schemas)} TO {self.role}")
        return "; ".join(statements)

    @staticmethod
    def together(lacking: Iterable[Privileges]) -> Privileges | None:
        """Combine the privileges of one role, each relation once; None: nothing is lacking."""
        found = list(lacking)
        if not found:
            return None
        relations = dict.fromkeys(name for each in found for name in each.relations)
        schemas = dict.fromkeys(name for each in found for name in each.schemas)
        return Privileges(tuple(relations), tuple(schemas), found[0].role)


@dataclass(frozen=True, slots=True)
class SequenceHealth:
    """One column and its sequence.

    :attr:`table` and :attr:`sequence` include their schema unless ``search_path`` finds them
    without it; they and :attr:`column` are written as in SQL, in quotes where they need them.
    :attr:`schema` is the table's, or the sequence's if no column uses it, without quotes.
    :attr:`table` and :attr:`column` are ``None`` for a sequence that no column uses.
    :attr:`last_value` is the sequence's own, :attr:`next_value` the value that it hands out next
    (``None``: none).
    :attr:`table_max_id` is the id furthest in the sequence's direction, the *smallest* one under
    a negative increment, among those that the sequence can hand out: larger ones conflict with
    nothing, and on Citus belong to other nodes.
    :attr:`gap` counts the next results of ``nextval`` that are not beyond the ids in the tables
    that use the sequence: ``(max - next_value) // increment + 1``, and 0 when healthy.
    :attr:`used_fraction` is the used share of the ids that the sequence and the column's type
    allow, and :attr:`ids_left` the number of ids left; ``None`` if that cannot be known, and under
    CYCLE, which has no end. :attr:`more_ids` says how the sequence gets more ids,
    :attr:`more_ids_sql` has the statements, if there are any.
    :attr:`lacking` are the privileges without which it cannot be read.
    :attr:`ids_a_day` is the rate that earlier checks have seen, and :attr:`ends_at` the moment at
    which the last id is handed out at that rate; ``None`` if no earlier check is recorded, no id
    was handed out since, or the end is more than a hundred years away.
    """

    table: str | None
    column: str | None
    sequence: str | None
    last_value: int | None
    next_value: int | None
    table_max_id: int | None
    is_healthy: bool
    gap: int
    status: Status
    severity: Severity
    used_fraction: float | None
    findings: tuple[Finding, ...] = ()
    database: str | None = None
    schema: str | None = None
    ids_left: int | None = None
    ids_a_day: float | None = None
    ends_at: datetime | None = None
    more_ids: str | None = None
    more_ids_sql: str | None = None
    lacking: Privileges | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; :attr:`last_value` is named ``sequence_value``, as dashboards do."""
        values = asdict(self)
        values["findings"] = [asdict(finding) for finding in self.findings]
        values["sequence_value"] = values.pop("last_value")
        # Of a sequence near its end, its finding says it.
        del values["more_ids"], values["more_ids_sql"], values["lacking"]
        values["ends_at"] = None if self.ends_at is None else self.ends_at.isoformat()
        return values

    @property
    def worse(self) -> tuple[int, int, float]:
        """The key that sorts entries from the worst to the best: status, gap, share used."""
        order = ("NEEDS_REPAIR", "EXHAUSTED", "", "UNREADABLE", "WARNING", "OK")
        severe = self.status == "WARNING" and self.severity == "HIGH"
        rank = 2 if severe else order.index(self.status)
        return rank, -self.gap, -(self.used_fraction or 0.0)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Every sequence of a check, ordered by table and column."""

    sequences: tuple[SequenceHealth, ...]
    checked_at: datetime

    @property
    def healthy(self) -> bool:
        """Whether every sequence was read, and is ahead of its table."""
        return all(entry.is_healthy for entry in self.sequences)

    @property
    def grant(self) -> str | None:
        """The statements that let the role read what it could not, to be run by the owner; ``None``
        if no privilege is lacking.
        """
        roles: dict[tuple[str | None, str], list[Privileges]] = {}
        for entry in self.sequences:
            if entry.lacking is not None:
                roles.setdefault((entry.database, entry.lacking.role), []).append(entry.lacking)
        together = filter(None, map(Privileges.together, roles.values()))
        return "; ".join(each.sql for each in together) or None

    @property
    def by_sequence(self) -> dict[tuple[str | None, ...], tuple[SequenceHealth, ...]]:
        """The entries of each sequence: one, or as many as columns share it."""
        found: dict[tuple[str | None, ...], tuple[SequenceHealth, ...]] = {}
        for entry in self.sequences:
            key: tuple[str | None, ...] = (entry.database, entry.sequence)
            if entry.sequence is None:
                key = (entry.database, None, entry.table, entry.column)
            found[key] = (*found.get(key, ()), entry)
        return found

    @property
    def behind(self) -> tuple[SequenceHealth, ...]:
        """The entries that need a repair."""
        return tuple(entry for entry in self.sequences if entry.status == "NEEDS_REPAIR")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "version": JSON_VERSION,
            "overall_health": "HEALTHY" if self.healthy else "UNHEALTHY",
            "sequences": [entry.to_dict() for entry in self.sequences],
            "checked_at": self.checked_at.isoformat(),
            "grant": self.grant,
            "total_sequences": len(self.by_sequence),
            "healthy_sequences": sum(
                all(entry.is_healthy for entry in entries) for entries in self.by_sequence.values()
            ),
        }


@dataclass(frozen=True, slots=True)
class OutlyingIds:
    """Ids far ahead of all others; a repair moves their sequence beyond them only if told to.

    They are :attr:`first` to :attr:`last`, in the sequence's direction; beyond them :attr:`left`
    values would be left. :attr:`before` is the id before them that the sequence has not passed, if
    there is one; otherwise the sequence hands out :attr:`free` values until it reaches them.
    """

    first: int
    last: int
    left: int
    before: int | None
    free: int


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair did, or would do, to one sequence; values are its ``last_value``.

    :attr:`outlying`: the ids for which it was not moved. :attr:`unreadable`: it is not known
    whether it is behind.
    """

    table: str | None
    column: str | None
    sequence: str | None
    action: RepairAction
    old_value: int | None
    new_value: int | None
    gap_fixed: int
    table_max_id: int | None
    reason: str | None = None
    outlying: OutlyingIds | None = None
    unreadable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the result with the keys that fit its action."""
        values: dict[str, Any] = {
            "table": self.table,
            "column": self.column,
            "sequence": self.sequence,
            "action": self.action,
            "status": self.action,
            "table_max_id": self.table_max_id,
        }
        if self.action in ("REPAIRED", "WOULD_REPAIR"):
            values |= {
                "old_value": self.old_value,
                "new_value": self.new_value,
                "gap_fixed": self.gap_fixed,
            }
        else:
            values["current_value"] = self.new_value
        if self.reason is not None:
            values["reason"] = self.reason
        if self.outlying is not None:
            values["outlying"] = asdict(self.outlying)
        return values


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason why sequences were not repaired, and the results to which it applies."""

    reason: str
    results: tuple[RepairResult, ...]

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences, each once; of the column where there is no sequence."""
        return tuple(dict.fromkeys(r.sequence or f"{r.table}.{r.column}" for r in self.results))


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Every sequence of a repair, in the order of the check.

    :attr:`headroom`: the ids beyond the largest one that each move also skips.
    """

    results: tuple[RepairResult, ...]
    dry_run: bool
    repaired_at: datetime
    headroom: int = 0

    @property
    def repaired(self) -> tuple[RepairResult, ...]:
        """The results whose sequence was moved."""
        return tuple(result for result in self.results if result.action == "REPAIRED")

    @property
    def would_repair(self) -> tuple[RepairResult, ...]:
        """The results whose sequence a dry run would have moved."""
        return tuple(result for result in self.results if result.action == "WOULD_REPAIR")

    @property
    def moves(self) -> dict[str, int]:
        """The sequences that were moved, or would be, and by how many ids; each once, however many
        columns it fills.
        """
        return {
            result.sequence: result.gap_fixed + self.headroom
            for result in (*self.repaired, *self.would_repair)
            if result.sequence is not None
        }

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The sequences that were not repaired, by reason."""
        reasons: dict[str, list[RepairResult]] = {}
        for result in self.results:
            if result.action == "NOT_REPAIRABLE":
                reasons.setdefault(result.reason or "", []).append(result)
        return tuple(Refusal(reason, tuple(found)) for reason, found in reasons.items())

    @property
    def repair_completed(self) -> bool:
        """Whether nothing is left to repair; false after a dry run that found something."""
        return all(result.action in ("HEALTHY", "REPAIRED") for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "version": JSON_VERSION,
            "repair_completed": self.repair_completed,
            "dry_run": self.dry_run,
            "sequences_repaired": len({result.sequence for result in self.repaired}),
            "sequences_moved": len(self.moves),
            "ids_moved": sum(self.moves.values()),
            "refusals": [
                {"reason": refusal.reason, "sequences": list(refusal.sequences)}
                for refusal in self.refusals
            ],
            "results": [result.to_dict() for result in self.results],
            "repaired_at": self.repaired_at.isoformat(),
        }


def worst(severities: Iterable[Severity]) -> Severity:
    """Return the highest of the severities, ``LOW`` for none."""
    order: tuple[Severity, ...] = ("LOW", "MEDIUM", "HIGH")
    return max(severities, key=order.index, default="LOW")
