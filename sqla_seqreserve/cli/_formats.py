"""A check in formats for other programs: JSON, Nagios plugins, Prometheus' textfile collector."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from enum import StrEnum

from sqla_seqreserve.health import HealthReport, SequenceHealth
from sqla_seqreserve.health._room import percent

from ._looking import Looked, Unchecked

_OK, _WARNING, _CRITICAL, _UNKNOWN = range(4)
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_MOST = 10


class HealthFormat(StrEnum):
    """How a check is printed."""

    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"
    PROMETHEUS_TEXTFILE = "prometheus-textfile"


def together(looks: Sequence[Looked], *, only_problems: bool = False) -> HealthReport:
    """Return the reports of several databases as one, the worst sequence first."""
    entries = [entry for looked in looks for entry in looked.report.sequences]
    if only_problems:
        entries = [entry for entry in entries if entry.status != "OK"]
    entries.sort(key=lambda entry: entry.worse)
    return replace(looks[0].report, sequences=tuple(entries))


def as_json(looks: Sequence[Looked], unchecked: Sequence[Unchecked], *, only_problems: bool) -> str:
    """Return the JSON that the guide describes; totals include sequences that are not listed."""
    values = together(looks).to_dict()
    if only_problems:
        values["sequences"] = [e for e in values["sequences"] if e["status"] != "OK"]
    values["databases"] = [asdict(looked.place) for looked in looks]
    if unchecked:
        values["not_checked"] = [{"database": u.database, "reason": u.reason} for u in unchecked]
    return json.dumps(values, indent=2)


def as_nagios(
    report: HealthReport, alert_used: float, unchecked: Sequence[Unchecked]
) -> tuple[str, int]:
    """Return a plugin's line, with performance data, and its exit code."""
    worst = {key: min(entries, key=_rank) for key, entries in report.by_sequence.items()}
    states = {key: _state(entry) for key, entry in worst.items()}
    # A known problem is worse than an unknown state.
    order = (_OK, _UNKNOWN, _WARNING, _CRITICAL)
    all_states = [*states.values(), *([_UNKNOWN] if unchecked else [])]
    code = max(all_states, key=order.index, default=_UNKNOWN)
    found = Counter(states.values())
    said = ", ".join(f"{found[state]} {_NAMES[state]}" for state in reversed(order) if found[state])
    troubled = sorted((e for e in worst.values() if _state(e) != _OK), key=_rank)
    told = [*map(str, unchecked), *(_told(entry) for entry in troubled[:_MOST])]
    if len(troubled) > _MOST:
        told.append(f"and {len(troubled) - _MOST} more")
    line = f"SEQUENCES {_NAMES[code]} - {len(worst)} checked: {said or 'none'}"
    data = " ".join(_data(worst.values(), alert_used))
    # A | would begin the performance data.
    text = "; ".join([line, *told]).replace("|", "/")
    return f"{text} | {data}", code


def _state(entry: SequenceHealth) -> int:
    if entry.status in ("NEEDS_REPAIR", "EXHAUSTED"):
        return _CRITICAL
    if entry.status == "WARNING":
        return _CRITICAL if entry.severity == "HIGH" else _WARNING
    return _UNKNOWN if entry.status == "UNREADABLE" else _OK


def _rank(entry: SequenceHealth) -> tuple[int, int, float]:
    return entry.worse


def _name(entry: SequenceHealth) -> str:
    name = entry.sequence or f"{entry.table}.{entry.column}"
    return f"{entry.database}.{name}" if entry.database else name


def _told(entry: SequenceHealth) -> str:
    facts: list[str] = [entry.status]
    if entry.gap:
        facts.append(f"{entry.gap} behind")
    if entry.ids_left is not None and any(f.code == "NEAR_EXHAUSTION" for f in entry.findings):
        facts.append(f"{percent(entry.used_fraction or 0)} used, {entry.ids_left} ids left")
        if entry.ends_at is not None:
            facts.append(f"the last on {entry.ends_at:%F}")
    return f"{_name(entry)} {', '.join(facts)}"


def _data(entries: Iterable[SequenceHealth], used: float) -> Iterator[str]:
    for entry in entries:
        # A quote within a label is doubled, and no label holds an equals sign.
        label = _name(entry).replace("'", "''").replace("=", "_").replace("|", "/")
        if entry.used_fraction is not None:
            yield f"'{label} used'={entry.used_fraction * 100:.2f}%;;{used:g};0;100"
        if entry.status != "UNREADABLE":
            yield f"'{label} gap'={entry.gap};;0;0"
