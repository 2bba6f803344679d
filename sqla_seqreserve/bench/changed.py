"""What changed objects gain, on each driver, near and far, as one picture: points of the
:mod:`.grid` of changed objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sqla_seqreserve.errors import ConfigurationError

from .chart import check_format, picture_style, save_picture, where
from .grid import DISTANCES, Grid, GridPoint

__all__ = ["CHANGED_OBJECTS", "changed_points", "draw_changed"]

CHANGED_OBJECTS: Final = 1_000

_TEXT: Final = "#7a828e"
_COLOURS: Final = ("#1a9c78", "#0d5e8c")


def changed_points(drivers: Sequence[str], objects: int = CHANGED_OBJECTS) -> list[GridPoint]:
    """The points of one number of objects: on the same machine and at the least distance."""
    return [GridPoint(driver, 1, away, objects) for driver in drivers for away in DISTANCES[:2]]


def draw_changed(changed: Grid, machine: Mapping[str, str], file: Path) -> None:
    """Draw one panel into ``file``, whose ending says the format.

    :raises ConfigurationError: the ending is another one, or Matplotlib is not installed.
    """
    check_format(file)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("A chart needs Matplotlib: install the extra [bench]") from error
    aways = sorted({cell.point.round_trip_ms for cell in changed.cells})
    with mpl.rc_context(picture_style(10, _TEXT)):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        panel = figure.subplots()
        for number, (away, colour) in enumerate(zip(aways, _COLOURS, strict=False)):
            cells = [cell for cell in changed.cells if cell.point.round_trip_ms == away]
            places = [place + (number - 0.5) * 0.36 for place in range(len(cells))]
            label = f"{away:g} ms away" if away else "local"
            panel.bar(places, [cell.ratio for cell in cells], width=0.34, color=colour, label=label)
            for place, cell in zip(places, cells, strict=True):
                height = f"{cell.ratio:.2f}x" if cell.ratio < 2 else f"{cell.ratio:.1f}x"
                panel.text(
                    place, cell.ratio * 1.06, height, ha="center", fontsize=8, fontweight="bold"
                )
        panel.set_yscale("log")
        # The axis begins at half of plain SQLAlchemy's speed, so that a ratio of one shows a bar.
        panel.set_ylim(0.5, max(cell.ratio for cell in changed.cells) * 2.5)
        panel.set_yticks([])
        panel.minorticks_off()
        panel.set_xticks(range(len(changed.drivers)), changed.drivers, color=_TEXT)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.legend(loc="upper right", frameon=False, labelcolor=_TEXT, fontsize=9)
        rows = max(cell.point.rows for cell in changed.cells)
        panel.set_title(
            f"Flushing {rows:,} changed objects: times as fast as plain SQLAlchemy",
            loc="left",
            fontsize=11,
            fontweight="bold",
        )
        figure.supxlabel(f"medians, logarithmic scale; {where(machine)}", fontsize=7.5)
        save_picture(figure, file, transparent=True)
