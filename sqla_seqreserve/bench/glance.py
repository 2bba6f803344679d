"""What a reader wants to know first: few, some and many objects, near and far, as one picture.

Three ways to save payments, each a new session and a commit: stock SQLAlchemy's ``add_all()``,
ours, and SQLAlchemy's own bulk INSERT (``session.execute(insert(Payment), rows)``), the fastest of
what SQLAlchemy has, which makes no objects and returns no keys.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import ConfigurationError

from .chart import check_format, picture_style, save_picture, where
from .data import payment_values
from .grid import DISTANCES
from .models import Payment
from .place import Place
from .sessions import Sessions
from .work import OURS, STOCK

__all__ = [
    "AWAY_MS",
    "BULK_INSERT",
    "OBJECTS",
    "Glance",
    "GlanceCell",
    "draw_glance",
    "run_glance",
]

BULK_INSERT: Final = "bulk INSERT, no objects"
"""The third way."""

OBJECTS: Final = (1, 50, 5_000)
AWAY_MS: Final = (DISTANCES[0], DISTANCES[-1])

_TEXT: Final = "#7a828e"
_COLOURS: Final = {STOCK: "#d0662f", OURS: "#1a9c78", BULK_INSERT: "#8d95a3"}
_BURST: Final = {1: 5, 50: 5}


@dataclass(frozen=True, slots=True)
class GlanceCell:
    """Seconds a save of so many objects, so far away, by way."""

    objects: int
    round_trip_ms: float
    samples: Mapping[str, Sequence[float]]

    def times(self, way: str) -> float:
        """How many times as fast as stock, by medians."""
        return median(self.samples[STOCK]) / median(self.samples[way])

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        return {
            "objects": self.objects,
            "round_trip_ms": self.round_trip_ms,
            "ways": [
                {"name": way, "median_ms": median(found) * 1000, "times_stock": self.times(way)}
                for way, found in self.samples.items()
            ],
        }


Glance = Sequence[GlanceCell]


def run_glance(
    place: Place,
    *,
    objects: Sequence[int] = OBJECTS,
    rounds: int,
    step: Callable[[str], object] | None = None,
) -> Glance:
    """Measure the three ways at each size and distance, interleaved, after a round that is not
    counted.

    :param step: called after each size, ``len(objects) * 2 * (rounds + 1)`` times.
    """
    samples: dict[tuple[int, float], dict[str, list[float]]] = {
        (count, away): {way: [] for way in _COLOURS} for away in AWAY_MS for count in objects
    }
    for round_ in range(rounds + 1):
        for (count, away), found in samples.items():
            there = place.at(away)
            ways = list(found)
            for way in ways[round_ % 3 :] + ways[: round_ % 3]:
                gc.collect()
                for _ in range(_BURST.get(count, 1)):
                    seconds = _save(there.ours if way == OURS else there.stock, way, count)
                    if round_:
                        found[way].append(seconds)
            if step is not None:
                step(f"{count:,} objects, {away:g} ms")
    return [GlanceCell(count, away, found) for (count, away), found in samples.items()]


def _save(sessions: Sessions, way: str, count: int) -> float:
    values = [payment_values(number) for number in range(count)]
    objects = [] if way == BULK_INSERT else [Payment(**row) for row in values]

    def work(session: Session) -> None:
        if way == BULK_INSERT:
            # Without it, rows with and without a NULL are statements of their own.
            session.execute(insert(Payment), values, execution_options={"render_nulls": True})
        else:
            session.add_all(objects)
        session.commit()

    return sessions.timed(work)


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
            "Saving objects and committing: times as fast as stock SQLAlchemy",
            loc="left",
            fontsize=11,
            fontweight="bold",
        )
        figure.supxlabel(f"{driver}, medians; {where(machine)}", fontsize=7.5)
        save_picture(figure, file, transparent=True)


_LABELS: Final = {
    STOCK: "SQLAlchemy, add_all()",
    OURS: "with sqla-seqreserve, add_all()",
    BULK_INSERT: "SQLAlchemy's bulk INSERT, which makes no objects and returns no keys",
}


def _place(cell: GlanceCell) -> str:
    objects = "1 object" if cell.objects == 1 else f"{cell.objects:,} objects"
    away = "local" if not cell.round_trip_ms else f"{cell.round_trip_ms:g} ms away"
    return f"{objects}\n{away}"
