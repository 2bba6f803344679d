"""Finds what changed since the last look, and which sequences will run out (no I/O)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqla_seqreserve.health import HealthReport, SequenceHealth
from sqla_seqreserve.health._outlook import Limits
from sqla_seqreserve.health.report import JSON_VERSION

DATABASE = "database"
HORIZON = timedelta(days=90)
_SLACK = 1.25

_Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A state that differs from the last look: whether it is ``alerting`` now, and ``since`` when.

    ``entries`` are those of the sequence, the worst first; if empty, it is about the database.
    """

    subject: str
    before: str | None
    now: str
    alerting: bool
    was_alerting: bool
    message: str
    at: datetime
    since: datetime
    entries: tuple[SequenceHealth, ...] = ()

    def __str__(self) -> str:
        if self.subject == DATABASE:
            return f"the database {self.message}"
        before = f", before {self.before}" if self.before else ""
        return f"{self.subject}: {self.now}{before}; {self.message}"

    @property
    def worth_an_alert(self) -> bool:
        """Whether an alert begins or ends here."""
        return self.alerting is not self.was_alerting

    def to_dict(self) -> dict[str, Any]:
        """Return the text of an alert, without the name of its database."""
        worst = self.entries[0] if self.entries else None
        findings = [f for f in worst.findings if f.severity != "LOW"] if worst else []
        if worst and not findings:
            findings = [f for f in worst.findings if f.code == "BEHIND"]
        return {
            "version": JSON_VERSION,
            "alert": "firing" if self.alerting else "resolved",
            "subject": self.subject,
            "before": self.before,
            "now": self.now,
            "severity": worst.severity if worst else "HIGH" if self.alerting else "LOW",
            "message": self.message,
            "at": self.at.isoformat(),
            "since": self.since.isoformat(),
            "schema": worst.schema if worst else None,
            "tables": list(dict.fromkeys(e.table for e in self.entries if e.table is not None)),
            "column": worst.column if worst else None,
            "sequence": worst.sequence if worst else None,
            "gap": worst.gap if worst else None,
            "ids_left": worst.ids_left if worst else None,
            "ends_at": worst.ends_at.isoformat() if worst and worst.ends_at else None,
            "findings": [asdict(finding) for finding in findings],
        }


@dataclass(slots=True)
class _State:
    status: str
    alerting: bool
    since: datetime
    firing: Change | None = None
    running_out: bool = False


class Watcher:
    """Remembers the state of every sequence, and of the database itself."""

    def __init__(self, *, alert_gap: int = 0, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.alert_gap = alert_gap
        self._states: dict[_Key, _State] = {}
        self._lost: Change | None = None

    @property
    def firing(self) -> list[Change]:
        """The alerts that have begun and not ended."""
        found = [state.firing for state in self._states.values() if state.firing is not None]
        return found if self._lost is None else [self._lost]

    def observe(self, report: HealthReport) -> list[Change]:
        """Return the states that the report changes, each once."""
        changes: list[Change] = []
        now = report.checked_at
        if self._lost is not None:
            since, self._lost = self._lost.since, None
            changes.append(
                Change(DATABASE, "away", "back", False, True, "answers again", now, since)
            )
        seen: dict[_Key, _State] = {}
        for key, sharing in report.by_sequence.items():
            entries = tuple(sorted(sharing, key=lambda entry: entry.worse))
            entry = entries[0]
            before = self._states.get(key)
            if before is not None and self._is_nearly(entry, before, now):
                seen[key] = before
                continue
            alerting = self._is_alerting(entry, before)
            # A healthy sequence seen for the first time is no news.
            status, was_alerting = (before.status, before.alerting) if before else (None, False)
            since = before.since if before and before.alerting else now
            change = Change(
                entry.sequence or f"{entry.table}.{entry.column}",
                status,
                entry.status,
                alerting,
                was_alerting,
                _message(entry),
                now,
                since,
                entries,
            )
            if (status or "OK", was_alerting) != (entry.status, alerting):
                changes.append(change)
            told = before is not None and before.running_out
            seen[key] = _State(entry.status, alerting, since, change if alerting else None, told)
        changes += [
            _gone(state.firing, now)
            for key, state in self._states.items()
            if key not in seen and state.firing is not None
        ]
        self._states = seen
        return changes

    def lost(self, reason: str) -> list[Change]:
        """Return, once, the change that the database does not answer."""
        if self._lost is not None:
            return []
        now = datetime.now(UTC)
        message = f"does not answer: {reason}"
        self._lost = Change(DATABASE, "back", "away", True, False, message, now, now)
        return [self._lost]

    def running_out(self, report: HealthReport) -> list[tuple[SequenceHealth, timedelta]]:
        """Return, once, each sequence that ends within the horizon at the rate seen, and when."""
        news: list[tuple[SequenceHealth, timedelta]] = []
        for key, (entry, *_) in report.by_sequence.items():
            left = entry.ends_at - report.checked_at if entry.ends_at is not None else None
            soon = left is not None and left < HORIZON
            state = self._states[key]
            # An alert says this, too.
            if soon and not (state.running_out or state.alerting) and left is not None:
                news.append((entry, left))
            state.running_out = soon
        return news

    def _is_nearly(self, entry: SequenceHealth, before: _State, now: datetime) -> bool:
        """Whether an alert that the end is near continues. Because a rate goes up and down, the
        alert ends only at a limit well apart from the one at which it began.
        """
        return (
            entry.status == "OK"
            and (before.status, before.alerting) == ("WARNING", True)
            and entry.ends_at is not None
            and entry.ends_at - now <= timedelta(days=self.limits.days * _SLACK)
        )

    def _is_alerting(self, entry: SequenceHealth, before: _State | None) -> bool:
        if entry.status == "UNREADABLE":
            # What cannot be read has not ended.
            return before is not None and before.alerting
        if entry.status == "EXHAUSTED":
            return True
        if entry.status == "WARNING" and entry.severity == "HIGH":
            return True
        # A missing sequence has no gap, but that makes it no better.
        return entry.status == "NEEDS_REPAIR" and not 0 < entry.gap <= self.alert_gap


def _gone(firing: Change, now: datetime) -> Change:
    """Return the end of an alert about a sequence that was dropped, renamed or moved."""
    return replace(
        firing,
        before=firing.now,
        now="gone",
        alerting=False,
        was_alerting=True,
        message="the database no longer has it under this name",
        at=now,
        entries=tuple(replace(entry, findings=(), severity="LOW") for entry in firing.entries),
    )


def _message(entry: SequenceHealth) -> str:
    if entry.status == "OK":
        return "it is ahead of its table"
    notable = [finding.message for finding in entry.findings if finding.severity != "LOW"]
    behind = [finding.message for finding in entry.findings if finding.code == "BEHIND"]
    return "; ".join(dict.fromkeys(behind + notable))
