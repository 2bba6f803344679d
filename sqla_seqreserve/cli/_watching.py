"""What changed since the last look, and which sequences will run out (no I/O)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqla_seqreserve.health import HealthReport, SequenceHealth
from sqla_seqreserve.health._outlook import Limits

__all__ = ["HORIZON", "Change", "Watcher"]

DATABASE = "database"
HORIZON = timedelta(days=90)
_SLACK = 1.25

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A state that differs from the last look; ``alerting`` as it is now."""

    subject: str
    before: str | None
    now: str
    alerting: bool
    was_alerting: bool
    message: str

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
        """Return the body of an alert."""
        return {
            "subject": self.subject,
            "before": self.before,
            "now": self.now,
            "alert": "firing" if self.alerting else "resolved",
            "message": self.message,
        }


@dataclass(slots=True)
class _State:
    status: str
    alerting: bool
    running_out: bool = False


class Watcher:
    """Remembers the state of every sequence, and of the database itself."""

    def __init__(self, *, alert_gap: int = 0, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.alert_gap = alert_gap
        self._states: dict[_Key, _State] = {}
        self._reachable = True

    def observe(self, report: HealthReport) -> list[Change]:
        """Return what the report changes, each state once."""
        changes: list[Change] = []
        if not self._reachable:
            self._reachable = True
            changes.append(Change(DATABASE, "away", "back", False, True, "answers again"))
        seen: dict[_Key, _State] = {}
        for entry in report.sequences:
            key = _key(entry)
            before = self._states.get(key)
            if before is not None and self._is_nearly(entry, before, report.checked_at):
                seen[key] = before
                continue
            alerting = self._is_alerting(entry)
            # A healthy sequence seen for the first time is no news.
            status, was_alerting = (before.status, before.alerting) if before else (None, False)
            if (status or "OK", was_alerting) != (entry.status, alerting):
                changes.append(
                    Change(
                        entry.sequence or f"{entry.table}.{entry.column}",
                        status,
                        entry.status,
                        alerting,
                        was_alerting,
                        _message(entry),
                    )
                )
            told = before is not None and before.running_out
            seen[key] = _State(entry.status, alerting, running_out=told)
        self._states = seen
        return changes

    def lost(self, reason: str) -> list[Change]:
        """Return the news that the database does not answer, once."""
        if not self._reachable:
            return []
        self._reachable = False
        return [Change(DATABASE, "back", "away", True, False, f"does not answer: {reason}")]

    def running_out(self, report: HealthReport) -> list[tuple[SequenceHealth, timedelta]]:
        """Return, once, each sequence that ends within the horizon at the rate seen, and when."""
        news: list[tuple[SequenceHealth, timedelta]] = []
        for entry in report.sequences:
            left = entry.ends_at - report.checked_at if entry.ends_at is not None else None
            soon = left is not None and left < HORIZON
            state = self._states[_key(entry)]
            # An alert says it too.
            if soon and not (state.running_out or state.alerting) and left is not None:
                news.append((entry, left))
            state.running_out = soon
        return news

    def _is_nearly(self, entry: SequenceHealth, before: _State, now: datetime) -> bool:
        """Whether an alert that the end is near goes on. A rate goes up and down, so it ends at a
        good distance from where it began.
        """
        return (
            entry.status == "OK"
            and (before.status, before.alerting) == ("WARNING", True)
            and entry.ends_at is not None
            and entry.ends_at - now <= timedelta(days=self.limits.days * _SLACK)
        )

    def _is_alerting(self, entry: SequenceHealth) -> bool:
        if entry.status == "EXHAUSTED":
            return True
        if entry.status == "WARNING" and entry.severity == "HIGH":
            return True
        # A sequence that is missing has no gap, and is no better for it.
        return entry.status == "NEEDS_REPAIR" and not 0 < entry.gap <= self.alert_gap


def _key(entry: SequenceHealth) -> _Key:
    return entry.table or "", entry.column or "", entry.sequence or ""


def _message(entry: SequenceHealth) -> str:
    if entry.status == "OK":
        return "it is ahead of its table"
    notable = [finding.message for finding in entry.findings if finding.severity != "LOW"]
    behind = [finding.message for finding in entry.findings if finding.code == "BEHIND"]
    return "; ".join(dict.fromkeys(behind + notable))
