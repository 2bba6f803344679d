"""Health and repair as rich tables."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from sqla_seqreserve.health import HealthReport, RepairReport

__all__ = ["health_table", "repair_table"]

_STYLES = {
    "OK": "green",
    "HEALTHY": "green",
    "REPAIRED": "green",
    "WARNING": "yellow",
    "WOULD_REPAIR": "yellow",
    "UNREADABLE": "magenta",
    "NEEDS_REPAIR": "bold red",
    "NOT_REPAIRABLE": "bold red",
}


def _styled(word: str) -> Text:
    return Text(word, _STYLES.get(word, ""))


def _plain(value: object) -> Text:
    # Names may hold square brackets, which rich would read as markup.
    return Text("" if value is None else str(value))


def health_table(report: HealthReport) -> Table:
    """Return one row a sequence, with the findings that matter below each other."""
    table = Table(title=f"{len(report.sequences)} sequences, checked {report.checked_at:%F %T} UTC")
    for heading in ("status", "table", "sequence"):
        table.add_column(heading, overflow="fold")
    for heading in ("next value", "largest id", "behind by", "used"):
        table.add_column(heading, justify="right")
    table.add_column("findings", overflow="fold")
    for entry in report.sequences:
        place = f"{entry.table}.{entry.column}" if entry.table else None
        table.add_row(
            _styled(entry.status),
            _plain(place),
            _plain(entry.sequence),
            _plain(entry.next_value),
            _plain(entry.table_max_id),
            _plain(entry.gap or None),
            _plain(None if entry.used_fraction is None else f"{entry.used_fraction:.1%}"),
            _plain("\n".join(f"{f.severity} {f.message}; {f.remedy}" for f in entry.findings)),
        )
    return table


def repair_table(report: RepairReport) -> Table:
    """Return one row a sequence."""
    table = Table(title=f"{len(report.results)} sequences, {len(report.repaired)} repaired")
    for heading in ("action", "table", "sequence"):
        table.add_column(heading, overflow="fold")
    for heading in ("from", "to", "largest id"):
        table.add_column(heading, justify="right")
    table.add_column("reason", overflow="fold")
    for result in report.results:
        place = f"{result.table}.{result.column}" if result.table else None
        table.add_row(
            _styled(result.action),
            _plain(place),
            _plain(result.sequence),
            _plain(result.old_value),
            _plain(result.new_value),
            _plain(result.table_max_id),
            _plain(result.reason),
        )
    return table
