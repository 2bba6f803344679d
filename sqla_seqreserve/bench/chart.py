"""The results as a picture, SVG or PNG: bars of the time an object takes, a panel for each work.

Drawn by Matplotlib on a transparent background, in colours that can be read on white and on black,
because the reader of the page chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqla_seqreserve.errors import ConfigurationError

from .results import Result
from .work import PLAIN

__all__ = ["FORMATS", "check_format", "draw_chart", "picture_style", "save_picture", "where"]

FORMATS = (".svg", ".png")

_TEXT = "#7a828e"
_OURS = "#1a9c78"
_PLAIN = "#d0662f"
_OTHER = "#8d95a3"

_ROW = 0.3  # inches a bar
_PANEL = 0.55  # inches around a panel's bars


def draw_chart(results: Sequence[Result], machine: Mapping[str, str], file: Path) -> None:
    """Draw the measures of time into ``file``, whose ending says the format.

    :raises ConfigurationError: the ending is another one, nothing was measured, or Matplotlib is
        not installed.
    """
    check_format(file)
    shown = [result for result in results if result.measure.unit != "MB"]
    if not shown:
        raise ConfigurationError("No time was measured, so there is nothing to draw")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("A chart needs Matplotlib: install the extra [bench]") from error
    with mpl.rc_context(picture_style(9, _TEXT)):
        heights = [len(result.samples) * _ROW + _PANEL for result in shown]
        figure = Figure(figsize=(9, sum(heights) + 0.8), layout="constrained")
        panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)
        for panel, result in zip(panels[:, 0], shown, strict=True):
            _draw(panel, result)
        # Above all bars: the reader of many panels does not see the end first.
        figure.suptitle(
            "Microseconds an object, median: less is better.\n"
            "In brackets: how many times as long as with sqla-seqreserve.",
            x=0.01,
            ha="left",
            fontsize=9,
        )
        figure.supxlabel(where(machine), fontsize=8)
        save_picture(figure, file, transparent=True)


def _draw(panel: Any, result: Result) -> None:
    from matplotlib.transforms import blended_transform_factory

    ways = sorted(result.samples, key=result.median)
    medians = [result.median(way) for way in ways]
    panel.barh(range(len(ways)), medians, color=[_colour(result, way) for way in ways], height=0.7)
    panel.set_yticks(range(len(ways)), ways, color=_TEXT)
    for label, way in zip(panel.get_yticklabels(), ways, strict=True):
        label.set_fontweight("bold" if way == result.measure.ours else "normal")
    panel.invert_yaxis()
    # From the picture's edge: above the bars alone a long title would be cut off.
    panel.text(
        0.01,
        1.04,
        f"{result.title}, {result.work.objects:,}",
        transform=blended_transform_factory(panel.figure.transFigure, panel.transAxes),
        fontsize=10,
        fontweight="bold",
    )
    panel.set_xlim(0, max(medians) * 1.2)
    panel.set_xticks([])
    panel.tick_params(left=False)
    panel.spines[:].set_visible(False)
    for place, (way, value) in enumerate(zip(ways, medians, strict=True)):
        ratio = result.ratio(way)
        times = "" if ratio is None or way == result.measure.ours else f"  ({ratio:.1f}x)"
        panel.text(value + max(medians) * 0.01, place, f"{value:,.1f}{times}", va="center")


def _colour(result: Result, way: str) -> str:
    if way == result.measure.ours:
        return _OURS
    return _PLAIN if way == PLAIN else _OTHER


def where(machine: Mapping[str, str]) -> str:
    """Where it was measured, for a picture's last line."""
    return (
        f"{machine['processor']}, {machine['python']}, SQLAlchemy {machine['sqlalchemy']}, "
        f"PostgreSQL {machine['server_version']}, fsync {machine['fsync']}"
    )


def check_format(file: Path) -> None:
    """Refuse a picture's file whose ending does not say a format.

    :raises ConfigurationError: it does not.
    """
    if file.suffix not in FORMATS:
        raise ConfigurationError(f"{file}: expected a file that ends with {' or '.join(FORMATS)}")


def picture_style(size: int, text: str) -> Any:
    """What all pictures have in common, for Matplotlib.

    :param size: of the font, in points.
    :param text: its colour.
    """
    return {
        "font.size": size,
        "svg.fonttype": "none",
        "svg.hashsalt": "sqla-seqreserve",  # the same results draw the same file
        "text.color": text,
    }


def save_picture(figure: Any, file: Path, **options: Any) -> None:
    """Write a figure into a file, the same results the same bytes."""
    metadata = {"Date": None} if file.suffix == ".svg" else {}
    figure.savefig(file, dpi=160, metadata=metadata, **options)
