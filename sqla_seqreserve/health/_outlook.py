"""Forecasts when each sequence hands out its last id, from earlier checks (no I/O).

A rate is measured over the last day and over the last week, and the faster one gives the end:
growth shows in the day, a weekly import in the week. A period of less than an hour counts as an
hour, so that a burst at the start is no alarm. An import of explicit ids is a jump and not a rate:
checks from before a sequence was behind, or before it got more room, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ._history import Seen, SequenceKey, key_of
from ._room import ALERT_USED, near_exhaustion
from .report import HealthReport, SequenceHealth, worst

_DAY = 24 * 3600.0
_WINDOWS = (_DAY, 7 * _DAY)
_SHORTEST = 3600.0
_LONGEST = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits from which a sequence is near its end: a share used, or days until its last id."""

    used: float = ALERT_USED
    days: float = 30.0


def with_outlook(
    report: HealthReport,
    seen: Mapping[SequenceKey, Sequence[Seen]],
    limits: Limits | None = None,
) -> HealthReport:
    """Return the report with rates and ends, judged by the limits.

    ``seen`` are the earlier checks of each sequence, the oldest first; the report's own may be
    among them.
    """
    limits = limits or Limits()
    entries = (
        _judged(_forecast(entry, seen.get(key_of(entry), ()), report.checked_at), report, limits)
        for entry in report.sequences
    )
    return replace(report, sequences=tuple(entries))


def _forecast(entry: SequenceHealth, seen: Sequence[Seen], now: datetime) -> SequenceHealth:
    left = entry.ids_left
    if left is None or entry.gap:
        return entry
    rate = _rate(seen, now.timestamp(), left)
    if not rate:
        return entry
    seconds = left / rate
    ends = now + timedelta(seconds=seconds) if seconds < _LONGEST.total_seconds() else None
    return replace(entry, ids_a_day=rate * _DAY, ends_at=ends)


def _rate(seen: Sequence[Seen], now: float, left: int) -> float:
    """Return the ids handed out in a second, over the last day or week, whichever is faster."""
    fastest = [0.0] * len(_WINDOWS)
    least = left
    for at, before, gap in reversed(seen):
        if at > now:
            continue
        if before < least:
            break
        least = before
        for place, window in enumerate(_WINDOWS):
            if now - at <= window:
                fastest[place] = (before - left) / max(now - at, _SHORTEST)
        if gap:
            break
    return max(fastest)


def _judged(entry: SequenceHealth, report: HealthReport, limits: Limits) -> SequenceHealth:
    findings = [f for f in entry.findings if f.code != "NEAR_EXHAUSTION"]
    used, left, now = entry.used_fraction, entry.ids_left, report.checked_at
    ends = entry.ends_at
    soon = ends is not None and ends - now <= timedelta(days=limits.days)
    if left and used is not None and entry.more_ids is not None and (used >= limits.used or soon):
        rate = (
            f"; at {entry.ids_a_day:,.0f} a day the last goes on {ends:%F %R} UTC" if ends else ""
        )
        label = entry.sequence or f"{entry.table}.{entry.column}"
        findings.append(
            near_exhaustion(label, used, left, entry.more_ids, entry.more_ids_sql, rate)
        )
    severity = worst(finding.severity for finding in findings)
    status = entry.status
    if status in ("OK", "WARNING"):
        status = "OK" if severity == "LOW" else "WARNING"
    elif entry.gap:
        severity = entry.severity
    return replace(entry, findings=tuple(findings), status=status, severity=severity)
