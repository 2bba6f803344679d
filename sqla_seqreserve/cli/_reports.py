"""Health and repair as text for people. No word or value is cut, on a terminal of any width, in
pipes, logs and mails.

A healthy sequence takes one line; a problem comes with its cause and what to do about it. On a
terminal lines are wrapped between words; elsewhere they are not wrapped.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from sqla_seqreserve.health import HealthReport, RepairReport, SequenceHealth
from sqla_seqreserve.health._room import percent
from sqla_seqreserve.health.report import RepairResult

_STYLES = {
    "OK": "green",
    "REPAIRED": "green",
    "WARNING": "yellow",
    "WOULD_REPAIR": "yellow",
    "UNREADABLE": "magenta",
    "NEEDS_REPAIR": "bold red",
    "EXHAUSTED": "bold red",
    "NOT_REPAIRABLE": "bold red",
}
# From the most urgent to the healthy.
_ORDER = ("NEEDS_REPAIR", "EXHAUSTED", "UNREADABLE", "WARNING", "OK")
_SAID = {
    "NEEDS_REPAIR": ("needs repair", "need repair"),
    "EXHAUSTED": ("is exhausted", "are exhausted"),
    "UNREADABLE": ("could not be read", "could not be read"),
    "WARNING": ("has a warning", "have a warning"),
    "OK": ("is healthy", "are healthy"),
}


def print_health(
    console: Console, report: HealthReport, place: str, *, only_problems: bool = False
) -> None:
    """Print a check of the database at ``place``: the sum, then each, the worst first."""
    found = Counter[str](_worst(entries).status for entries in report.by_sequence.values())
    said = ", ".join(f"{found[s]} {_SAID[s][found[s] != 1]}" for s in _ORDER if found[s])
    _line(
        console,
        f"{count(len(report.by_sequence), 'sequence')} of {place}, checked "
        f"{report.checked_at:%F %T} UTC{': ' * bool(said)}{said}",
    )
    closed = [entry for entry in report.sequences if _is_closed(entry)]
    if closed:
        _print_closed(console, closed, report)
    for entry in sorted(report.sequences, key=lambda entry: entry.worse):
        if entry in closed or (only_problems and entry.status == "OK"):
            continue
        _line(console, f"{entry.status}  {_facts(entry)}", entry.status)
        if entry.status != "OK":
            _print_findings(console, entry)
    remarks = Counter(
        finding.code
        for entry in report.sequences
        if entry.status == "OK"
        for finding in entry.findings
    )
    if remarks and not only_problems:
        listed = ", ".join(f"{code} ({number})" for code, number in sorted(remarks.items()))
        _line(console, f"Remarks on healthy ones, which --json gives in full: {listed}")


def print_repair(console: Console, report: RepairReport, place: str) -> None:
    """Print a repair: how many moved and by how much, then each; equal refusals as one."""
    # Columns that share a sequence share its repair; the one with the largest ids explains it.
    shared: dict[str, RepairResult] = {}
    for result in report.results:
        key = result.sequence or f"{result.table}.{result.column}"
        if (result.table_max_id or 0) > (shared.setdefault(key, result).table_max_id or 0):
            shared[key] = result
    results = list(shared.values())
    moved = [r for r in results if r.action in ("REPAIRED", "WOULD_REPAIR")]
    refused = [r for r in results if r.action == "NOT_REPAIRABLE"]
    healthy = len(results) - len(moved) - len(refused)
    verb = "would move" if report.dry_run else "moved"
    by = f" by {count(sum(report.moves.values()), 'id')} in all" if moved else ""
    _line(
        console,
        f"{len(moved)} of {count(len(results), 'sequence')} of {place} {verb}{by}"
        f"{f', {len(refused)} cannot be repaired' if refused else ''}, {healthy} "
        f"{'was' if healthy == 1 else 'were'} healthy",
    )
    for result in moved:
        _line(
            console,
            f"{result.action}  {_place(result)}: from {_shown(result.old_value)} to "
            f"{_shown(result.new_value)}, by {count(result.gap_fixed + report.headroom, 'id')}; "
            f"largest id {_shown(result.table_max_id)}",
            result.action,
        )
    for reason, results in _by_reason(refused).items():
        if len(results) == 1:
            _line(
                console,
                f"NOT_REPAIRABLE  {_place(results[0])}: {results[0].reason}",
                "NOT_REPAIRABLE",
            )
            continue
        _line(
            console,
            f"NOT_REPAIRABLE  {count(len(results), 'sequence')}: {reason}",
            "NOT_REPAIRABLE",
        )
        _line(console, "  " + ", ".join(map(_place, results)))


def count(number: int, noun: str) -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is_closed(entry: SequenceHealth) -> bool:
    """Whether the only known fact of a sequence is that the role lacks a privilege."""
    return entry.status == "UNREADABLE" and all(
        finding.severity == "LOW" or (finding.code == "UNREADABLE" and finding.sql is not None)
        for finding in entry.findings
    )


def _print_closed(console: Console, closed: list[SequenceHealth], report: HealthReport) -> None:
    names = ", ".join(dict.fromkeys(map(_place, closed)))
    _line(console, f"UNREADABLE  {names}", "UNREADABLE")
    lacking = [each.lacking for each in closed if each.lacking is not None]
    _line(console, f"  cause:  the role {lacking[0].role} may not read all that a check compares")
    _line(console, "  remedy: check with another role, or let the owner grant this one")
    _line(console, f"  sql:    {report.grant};")


def _worst(entries: Iterable[SequenceHealth]) -> SequenceHealth:
    return min(entries, key=lambda entry: _ORDER.index(entry.status))


def _facts(entry: SequenceHealth) -> str:
    used = entry.used_fraction or 0.0
    facts = [
        f"next {entry.next_value}" if entry.next_value is not None else "",
        f"largest id {entry.table_max_id}" if entry.table_max_id is not None else "",
        f"{entry.gap} behind" if entry.gap else "",
        # Most sequences have used next to nothing; only another share is worth showing.
        f"{percent(used)} used" if used >= 0.001 else "",
        *_outlook(entry),
    ]
    return ": ".join(filter(None, [_place(entry), ", ".join(filter(None, facts))]))


def _outlook(entry: SequenceHealth) -> Iterator[str]:
    if entry.ids_left and (entry.ends_at is not None or (entry.used_fraction or 0) >= 0.5):
        yield f"{count(entry.ids_left, 'id')} left"
    if entry.ids_left and entry.ends_at is not None:
        yield f"the last on {entry.ends_at:%F}"


def _print_findings(console: Console, entry: SequenceHealth) -> None:
    for finding in entry.findings:
        mark = "" if finding.severity == "LOW" else f" ({finding.severity})"
        _line(console, f"  cause:  {finding.message}{mark}")
        _line(console, f"  remedy: {finding.remedy}")
        if finding.sql is not None and finding.sql not in finding.remedy:
            _line(console, f"  sql:    {finding.sql};")


def _place(entry: SequenceHealth | RepairResult) -> str:
    """The column and its sequence; without the sequence if it has the usual name."""
    if entry.table is None:
        return str(entry.sequence)
    column = f"{entry.table}.{entry.column}"
    if entry.sequence in (None, f"{entry.table}_{entry.column}_seq"):
        return column
    return f"{column} by {entry.sequence}"


def _shown(value: int | None) -> str:
    return "none" if value is None else str(value)


def _by_reason(refused: Iterable[RepairResult]) -> dict[str, list[RepairResult]]:
    """Group results that differ only in the names of the sequence and its table."""
    groups: dict[str, list[RepairResult]] = {}
    for result in refused:
        groups.setdefault(_without_names(result), []).append(result)
    return groups


def _without_names(result: RepairResult) -> str:
    reason = result.reason or ""
    for name, noun in _nouns(result):
        reason = re.sub(rf"(?<![\w.\"]){re.escape(name)}(?![\w\"]|\.\w)", noun, reason)
    return re.sub(r"\b(?:the )?(sequence|table) the \1\b", r"the \1", reason)


def _nouns(result: RepairResult) -> Iterator[tuple[str, str]]:
    if result.table is not None:
        yield f"{result.table}.{result.column}", "the column"
    for name, noun in ((result.sequence, "the sequence"), (result.table, "the table")):
        if name is not None:
            yield name, noun
            # PostgreSQL's own messages leave the schema out.
            yield name.rpartition(".")[2], noun


def _line(console: Console, line: str, status: str = "") -> None:
    indent = len(line) - len(line.lstrip())
    if console.is_terminal:
        line = "\n".join(
            textwrap.wrap(
                line,
                console.width,
                initial_indent=" " * indent,
                subsequent_indent=" " * (indent + 2),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    text = Text(line)
    if status:
        text.stylize(_STYLES[status], 0, len(status))
    console.print(text, soft_wrap=True)
