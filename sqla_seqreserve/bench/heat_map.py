"""The grid as one picture: blue where this package is faster than plain SQLAlchemy, orange where
slower.

Nearly everyone can distinguish blue and orange, white is "the same", and every cell has its
figure; cells that are slower also have a frame. Drawn by Matplotlib on a white background, which
colours that diverge around white need.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import Any, Final

from sqla_seqreserve.errors import ConfigurationError

from .chart import check_format, picture_style, save_picture, where
from .grid import Grid, GridCell
from .saves import SAVES

__all__ = ["draw_heat_map"]

_TEXT: Final = "#30363d"
_GROUND: Final = "#ffffff"
_EMPTY: Final = "#eceff2"
# From ColorBrewer's PuOr and RdBu: safe for the colour-blind, and printable.
_COLOURS: Final = ("#b35806", "#f1a340", "#fdd9a8", "#ffffff", "#c6dcef", "#5ba3d0", "#0b559f")
# The ratios with the deepest colours, in doublings: four times as fast, half as fast.
_FASTEST: Final = 2.0
_SLOWEST: Final = 1.0
_SLOWER: Final = 0.97  # the difference that a repeated measurement may show where nothing differs


def draw_heat_map(grid: Grid, machine: Mapping[str, str], file: Path) -> None:
    """Draw the grid into ``file``, whose ending says the format.

    :raises ConfigurationError: the ending is another one, or Matplotlib is not installed.
    """
    check_format(file)
    try:
        import matplotlib as mpl
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("A chart needs Matplotlib: install the extra [bench]") from error
    with mpl.rc_context(picture_style(9, _TEXT)):
        drivers = grid.drivers
        lines = [_lines(grid, driver) for driver in drivers]
        heights = [len(found) for found in lines]
        figure = Figure(
            figsize=(8.2, sum(heights) * 0.36 + len(drivers) * 0.62 + 1.1), layout="constrained"
        )
        panels = figure.subplots(len(drivers), 1, squeeze=False, height_ratios=heights)[:, 0]
        colours = LinearSegmentedColormap.from_list("ours", _COLOURS)
        for panel, driver, found in zip(panels, drivers, lines, strict=True):
            _draw(panel, grid, driver, found, colours)
        figure.suptitle(
            "Blue: faster than plain SQLAlchemy. Framed: slower by more than 3 %.",
            x=0.01,
            ha="left",
            weight="bold",
        )
        related = grid.kind == "related"
        tables = "parents, children and their children" if related else "independent tables"
        figure.supxlabel(
            f"How many times as long plain SQLAlchemy takes: {SAVES[grid.kind].title}; medians.\n"
            f"3 tables: {tables}, the rows spread over them.\n{where(machine)}",
            fontsize=8,
        )
        save_picture(figure, file, facecolor=_GROUND)


Lines = dict[tuple[int, float], dict[int, GridCell]]


def _lines(grid: Grid, driver: str) -> Lines:
    """The cells of a driver by line (tables, distance) and by rows."""
    lines: Lines = {}
    for cell in grid.of(driver):
        point = cell.point
        lines.setdefault((point.tables, point.round_trip_ms), {})[point.rows] = cell
    return lines


def _draw(panel: Any, grid: Grid, driver: str, lines: Lines, colours: Any) -> None:
    from matplotlib.patches import Rectangle

    columns = sorted({cell.point.rows for cell in grid.cells})
    for y, line in enumerate(lines.values()):
        for x, rows in enumerate(columns):
            cell = line.get(rows)
            shade = colours(_shade(cell.ratio)) if cell is not None else _EMPTY
            panel.add_patch(Rectangle((x, y), 1, 1, facecolor=shade, edgecolor=_GROUND, lw=1.5))
            if cell is None:
                continue
            slower = round(cell.ratio, 2) < _SLOWER
            if slower:
                frame = Rectangle(
                    (x + 0.04, y + 0.08), 0.92, 0.84, fill=False, edgecolor=_COLOURS[0], lw=1.5
                )
                panel.add_patch(frame)
            deep = abs(_shade(cell.ratio) - 0.5) > 0.33
            panel.text(
                x + 0.5,
                y + 0.52,
                f"{cell.ratio:.2f}",
                ha="center",
                va="center",
                color=_GROUND if deep else _TEXT,
                weight="bold" if slower else "normal",
            )
    panel.set_xlim(0, len(columns))
    panel.set_ylim(len(lines), 0)
    panel.set_xticks(
        [x + 0.5 for x in range(len(columns))],
        [f"{rows:,} row{'s' if rows > 1 else ''}" for rows in columns],
    )
    panel.set_yticks([y + 0.5 for y in range(len(lines))], [_line_name(*key) for key in lines])
    panel.xaxis.tick_top()
    panel.tick_params(length=0, labelcolor=_TEXT)
    panel.spines[:].set_visible(False)
    panel.set_title(
        f"{driver}: {grid.mean(driver):.2f} in the geometric mean, "
        f"{grid.worst(driver).ratio:.2f} at worst",
        loc="left",
        fontsize=10,
        fontweight="bold",
    )


def _line_name(tables: int, round_trip_ms: float) -> str:
    distance = "local" if not round_trip_ms else f"{round_trip_ms:g} ms away"
    return f"{tables} table{'s' if tables > 1 else ''}, {distance}"


def _shade(ratio: float) -> float:
    """The position on the scale of colours: 0 (slower), 0.5 (the same), 1 (faster)."""
    doublings = log2(ratio)
    way = doublings / (_FASTEST if doublings > 0 else _SLOWEST)
    return min(max(way, -1.0), 1.0) / 2 + 0.5
