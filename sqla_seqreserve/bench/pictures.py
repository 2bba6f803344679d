"""The pictures of the documentation, from one run: a save that two of them show is measured once.

============== =====================================================================================
file           what it shows
============== =====================================================================================
glance.svg     1, 50 and 5,000 objects, near and far, by three ways: points of the grid
changed.svg    1,000 changed objects on each driver, near and far
grid.svg       every number of rows and tables, near and far, on each driver
speed.svg      the other works, by every way there is
measured.json  all of the samples, and the machine
============== =====================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .changed import draw_changed
from .chart import draw_chart
from .glance import draw_glance, glance_of
from .grid import Grid
from .heat_map import draw_heat_map
from .results import Result
from .work import Work
from .workloads import WORKS
from .workloads.few import FIFTY, ONE, ONE_FAR

__all__ = ["SPEED_WORKS", "Pictures"]

SPEED_WORKS: Final[Sequence[Work]] = tuple(
    work for work in WORKS if work not in (FIFTY, ONE, ONE_FAR) and not work.only_large
)
"""The works that the grid does not measure."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The measurements of one run on one machine.

    :ivar driver: the one of the glance
    :ivar changed: the points of changed objects
    """

    machine: Mapping[str, str]
    driver: str
    grid: Grid
    changed: Grid
    results: Sequence[Result]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine,
            "driver": self.driver,
            "glance": [cell.to_dict() for cell in glance_of(self.grid)],
            "grid": self.grid.to_dict(),
            "changed": self.changed.to_dict(),
            "results": [result.to_dict(required=False) for result in self.results],
        }

    def draw(self, folder: Path) -> list[Path]:
        """Write all files into the folder; return them."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ("glance.svg", "changed.svg", "grid.svg", "speed.svg", "measured.json")
        glance, changed, grid, speed, measured = files = [folder / name for name in names]
        draw_glance(glance_of(self.grid), self.driver, self.machine, glance)
        draw_changed(self.changed, self.machine, changed)
        draw_heat_map(self.grid, self.machine, grid)
        draw_chart(self.results, self.machine, speed)
        measured.write_text(f"{json.dumps(self.to_dict(), indent=1)}\n", encoding="utf-8")
        return files
