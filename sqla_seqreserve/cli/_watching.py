"""What changed since the last look, and when a sequence will run out (no I/O)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqla_seqreserve.health import HealthReport, SequenceHealth

__all__ = ["HORIZON", "Change", "Watcher"]

DATABASE = "database"
HORIZON = timedelta(days=90)

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
    first_seen: datetime
    first_used: float | None
    running_out: bool = False


class Watcher:
    """Remembers the state of every sequence, and of the database itself."""

    def __init__(self, *, alert_gap: int) -> None:
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
            if before is None or entry.gap or before.status == "NEEDS_REPAIR":
                # An import or a repair is a jump, and says nothing about the rate.
                seen[key] = _State(entry.status, alerting, report.checked_at, entry.used_fraction)
            else:
                seen[key] = replace(before, status=entry.status, alerting=alerting)
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
            left = self.runs_out_in(entry, report.checked_at)
            soon = left is not None and left < HORIZON
            state = self._states[_key(entry)]
            if soon and not state.running_out and left is not None:
                news.append((entry, left))
            state.running_out = soon
        return news

    def runs_out_in(self, entry: SequenceHealth, now: datetime) -> timedelta | None:
        """Estimate from the share used since the first look when none will be left."""
        state = self._states.get(_key(entry))
        if state is None or state.first_used is None or entry.used_fraction is None:
            return None
        used = entry.used_fraction - state.first_used
        elapsed = (now - state.first_seen).total_seconds()
        if used <= 0 or elapsed <= 0:
            return None
        seconds = (1 - entry.used_fraction) * elapsed / used
        return timedelta(seconds=min(seconds, timedelta.max.total_seconds() / 2))

    def _is_alerting(self, entry: SequenceHealth) -> bool:
        if entry.status == "EXHAUSTED":
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
