"""The grid (this package compared with plain SQLAlchemy) as rich tables, one per driver; and the
glance as one table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from sqla_seqreserve.bench import OURS, Grid
from sqla_seqreserve.bench.glance import BULK_INSERT, Glance


def grid_tables(grid: Grid) -> Iterator[Table]:
    """Return a table per driver: a row for each number of tables and distance, a column for each
    number of rows.
    """
    columns = sorted({cell.point.rows for cell in grid.cells})
    for driver in grid.drivers:
        table = Table(
            title=f"{driver}: geometric mean {grid.mean(driver):.2f}, "
            f"worst {grid.worst(driver).ratio:.2f}",
            title_justify="left",
            caption="How many times as long plain SQLAlchemy takes; below 1 registered is slower.",
            caption_justify="left",
        )
        table.add_column("tables", justify="right")
        table.add_column("away", justify="right")
        for rows in columns:
            table.add_column(f"{rows:,}", justify="right")
        ratios = {
            (cell.point.tables, cell.point.round_trip_ms, cell.point.rows): cell.ratio
            for cell in grid.of(driver)
        }
        for tables, away in dict.fromkeys((tables, away) for tables, away, _ in ratios):
            table.add_row(
                str(tables),
                f"{away:g} ms",
                *(_ratio(ratios.get((tables, away, rows))) for rows in columns),
            )
        yield table


def glance_table(glance: Glance, driver: str) -> Table:
    """A row for each number of objects and distance."""
    table = Table(
        title=f"{driver}: add_all() and commit, times as fast as plain SQLAlchemy",
        title_justify="left",
    )
    for heading in ("objects", "away", OURS, BULK_INSERT):
        table.add_column(heading, justify="right")
    for cell in glance:
        table.add_row(
            f"{cell.objects:,}",
            f"{cell.round_trip_ms:g} ms",
            _ratio(cell.times(OURS)),
            _ratio(cell.times(BULK_INSERT)),
        )
    return table


def _ratio(ratio: float | None) -> Text:
    if ratio is None:
        return Text("")
    shown = f"{ratio:.2f}"
    style = "bold yellow" if ratio < 0.97 else "cyan" if ratio > 1.03 else ""
    return Text(shown, style)
