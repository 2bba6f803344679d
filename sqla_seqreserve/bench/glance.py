"""Draws the first picture of the README: few, some and many objects, near and far.

Three ways to save payments, each a new session and a commit: plain SQLAlchemy's ``add_all()``,
this package's, and SQLAlchemy's own bulk INSERT. They are some points of the :mod:`.grid`, measured
with it, so the two pictures cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqla_seqreserve.errors import ConfigurationError

from .chart import check_format, picture_style, save_picture, where
from .grid import DISTANCES, Grid, GridPoint
from .work import OURS, PLAIN

__all__ = [
    "BULK_INSERT",
    "OBJECTS",
    "Glance",
    "GlanceCell",
    "draw_glance",
    "glance_of",
    "glance_points",
]

BULK_INSERT: Final = "bulk INSERT, no objects"
"""The third way."""

OBJECTS: Final = (1, 50, 5_000)

_TEXT: Final = "#7a828e"
_COLOURS: Final = {PLAIN: "#d0662f", OURS: "#1a9c78", BULK_INSERT: "#8d95a3"}


@dataclass(frozen=True, slots=True)
class GlanceCell:
    """Seconds per save of :attr:`objects` objects at one distance, for each way."""

    objects: int
    round_trip_ms: float
    samples: Mapping[str, Sequence[float]]

    def times(self, way: str) -> float:
        """How many times as fast as plain SQLAlchemy, by medians."""
        return median(self.samples[PLAIN]) / median(self.samples[way])

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        return {
            "objects": self.objects,
            "round_trip_ms": self.round_trip_ms,
            "ways": [
                {"name": way, "median_ms": median(found) * 1000, "times_plain": self.times(way)}
                for way, found in self.samples.items()
            ],
        }


Glance = Sequence[GlanceCell]


def glance_points(driver: str, objects: Sequence[int] = OBJECTS) -> list[GridPoint]:
    """The points of the grid that the glance shows; the bulk INSERT is measured at each of them."""
    return [
        GridPoint(driver, 1, away, count)
        for away in (DISTANCES[0], DISTANCES[-1])
        for count in objects
    ]


def glance_of(grid: Grid) -> Glance:
    """The measurements of the points at which the bulk INSERT took part."""
    return [
        GlanceCell(
            cell.point.rows,
            cell.point.round_trip_ms,
            {PLAIN: cell.plain, OURS: cell.ours, BULK_INSERT: cell.bulk},
        )
        for cell in grid.cells
        if cell.bulk
    ]


def draw_glance(glance: Glance, driver: str, machine: Mapping[str, str], file: Path) -> None:
    """Draw one panel into ``file``, whose ending says the format.

    :raises ConfigurationError: the ending is another one, or Matplotlib is not installed.
    """
    check_format(file)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("A chart needs Matplotlib: install the extra [bench]") from error
    with mpl.rc_context(picture_style(10, _TEXT)):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panel = figure.subplots()
        highest = max(cell.times(way) for cell in glance for way in _COLOURS)
        for number, (way, colour) in enumerate(_COLOURS.items()):
            places = [place + (number - 1) * 0.27 for place in range(len(glance))]
            heights = [cell.times(way) for cell in glance]
            panel.bar(places, heights, width=0.25, color=colour, label=_LABELS[way])
            for place, height in zip(places, heights, strict=True):
                panel.text(
                    place,
                    height + highest * 0.015,
                    f"{height:.2f}x" if height < 2 else f"{height:.1f}x",
                    ha="center",
                    fontsize=8,
                    fontweight="bold" if way == OURS else "normal",
                )
        panel.set_xticks(range(len(glance)), [_place(cell) for cell in glance], color=_TEXT)
        panel.set_yticks([])
        panel.set_xlim(-0.6, len(glance) - 0.4)
        panel.set_ylim(0, highest * 1.55)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.legend(loc="upper left", frameon=False, labelcolor=_TEXT, fontsize=9)
        panel.set_title(
            "Saving objects and committing: times as fast as plain SQLAlchemy",
            loc="left",
            fontsize=11,
            fontweight="bold",
        )
        figure.supxlabel(f"{driver}, medians; {where(machine)}", fontsize=7.5)
        save_picture(figure, file, transparent=True)


_LABELS: Final = {
    PLAIN: "SQLAlchemy, add_all()",
    OURS: "with sqla-seqreserve, add_all()",
    BULK_INSERT: "SQLAlchemy's bulk INSERT, which makes no objects and returns no keys",
}


def _place(cell: GlanceCell) -> str:
    objects = "1 object" if cell.objects == 1 else f"{cell.objects:,} objects"
    away = "local" if not cell.round_trip_ms else f"{cell.round_trip_ms:g} ms away"
    return f"{objects}\n{away}"
