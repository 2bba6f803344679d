"""Measures what the options of ``bench`` select, and shows it as tables, JSON or pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console, RenderableType
from sqlalchemy import URL

from sqla_seqreserve.bench import (
    Grid,
    GridPoint,
    Place,
    Result,
    Work,
    describe_machine,
    grid_points,
    open_place,
    run_grid,
    run_work,
)
from sqla_seqreserve.bench.changed import CHANGED_OBJECTS, changed_points, draw_changed
from sqla_seqreserve.bench.chart import draw_chart
from sqla_seqreserve.bench.glance import OBJECTS, draw_glance, glance_of, glance_points
from sqla_seqreserve.bench.grid import ROWS
from sqla_seqreserve.bench.heat_map import draw_heat_map
from sqla_seqreserve.bench.pictures import SPEED_WORKS, Pictures
from sqla_seqreserve.bench.saves import Kind

from ._bench_table import bench_table, machine_line
from ._grid_table import glance_table, grid_tables
from ._progress import steps

__all__ = ["QUICK_OBJECTS", "QUICK_ROUNDS", "Measuring"]

QUICK_OBJECTS: Final = 1_000
QUICK_ROUNDS: Final = 3
_GRID_ROUNDS: Final = 15


@dataclass(frozen=True, slots=True)
class Measuring:
    """Where to measure and how often, and where the results go.

    :param rounds: ``None``: the default of what is measured.
    :param objects: the largest number of objects; ``None``: the default.
    :param chart: a file for a picture, too.
    """

    url: URL | None
    rounds: int | None
    objects: int | None
    quick: bool
    chart: Path | None
    is_json: bool
    aside: Console

    def works(self, works: Sequence[Work], drivers: Sequence[str], *, targets: bool) -> None:
        """Do the works on each driver; their ways take turns.

        :param targets: show the requirements, too.
        """
        most = self.objects or (QUICK_OBJECTS if self.quick else None)
        rounds = self.rounds or (QUICK_ROUNDS if self.quick else None)
        works = [work.at_most(objects=most, rounds=rounds) for work in works]
        missing = {
            way.needs
            for work in works
            for way in work.ways
            if not way.installed and set(way.drivers) & set(drivers)
        }
        with open_place(self.url, driver=drivers[0]) as place:
            machine = describe_machine(place.engine)
            results = self._run(works, [place.on(name) for name in drivers])
        found = [result.to_dict(required=targets) for result in results]
        self._show(machine, {"results": found}, lambda: [bench_table(results, targets=targets)])
        if missing:
            names = ", ".join(sorted(filter(None, missing)))
            self.aside.print(f"not installed, so left out: {names}")
        if self.chart is not None:
            draw_chart(results, machine, self.chart)
            self._tell_drawn(self.chart)

    def grid(self, drivers: Sequence[str], kind: Kind) -> None:
        """Compare this package with plain SQLAlchemy at each point of the grid."""
        most = self.objects or (QUICK_OBJECTS if self.quick else max(ROWS))
        points = grid_points(drivers, rows=[rows for rows in ROWS if rows <= most])
        self._points(points, kind, draw_heat_map)

    def changed(self, drivers: Sequence[str]) -> None:
        """Measure the flush of changed objects, on each driver."""
        size = min(self.objects or CHANGED_OBJECTS, CHANGED_OBJECTS)
        self._points(changed_points(drivers, size), "changed", draw_changed)

    def glance(self, driver: str) -> None:
        """Measure this package, plain SQLAlchemy and the bulk INSERT, near and far."""
        most = self.objects or (QUICK_OBJECTS if self.quick else None)
        points = glance_points(driver, [n for n in OBJECTS if most is None or n <= most])
        with (
            open_place(self.url, driver=driver) as place,
            steps(self.aside, len(points) * (self._of_grid + 1)) as step,
        ):
            machine = describe_machine(place.engine)
            grid = run_grid(place, points, rounds=self._of_grid, with_bulk=points, step=step)
        found = glance_of(grid)
        cells = {"driver": driver, "glance": [cell.to_dict() for cell in found]}
        self._show(machine, cells, lambda: [glance_table(found, driver)])
        if self.chart is not None:
            draw_glance(found, driver, machine, self.chart)
            self._tell_drawn(self.chart)

    def pictures(self, drivers: Sequence[str], folder: Path) -> None:
        """Measure all that the pictures of the documentation show, and draw them into a folder."""
        most = self.objects or (QUICK_OBJECTS if self.quick else None)
        rounds = self.rounds or (QUICK_ROUNDS if self.quick else None)
        of_grid = rounds or _GRID_ROUNDS
        points = grid_points(drivers, rows=[n for n in ROWS if n <= (most or max(ROWS))])
        of_glance = glance_points(drivers[0], [n for n in OBJECTS if n <= (most or max(OBJECTS))])
        works = [work.at_most(objects=most, rounds=rounds) for work in SPEED_WORKS]
        with open_place(self.url, driver=drivers[0]) as place:
            machine = describe_machine(place.engine)
            with steps(self.aside, len(points) * (of_grid + 1)) as step:
                grid = run_grid(place, points, rounds=of_grid, with_bulk=of_glance, step=step)
            points = changed_points(drivers, min(most or CHANGED_OBJECTS, CHANGED_OBJECTS))
            with steps(self.aside, len(points) * (of_grid + 1)) as step:
                changed = run_grid(place, points, rounds=of_grid, kind="changed", step=step)
            results = self._run(works, [place])
        for file in Pictures(machine, drivers[0], grid, changed, results).draw(folder):
            self.aside.print(f"written: {file}", markup=False, highlight=False)

    @property
    def _of_grid(self) -> int:
        return self.rounds or (QUICK_ROUNDS if self.quick else _GRID_ROUNDS)

    def _points(
        self,
        points: Sequence[GridPoint],
        kind: Kind,
        draw: Callable[[Grid, Mapping[str, str], Path], None],
    ) -> None:
        with (
            open_place(self.url) as place,
            steps(self.aside, len(points) * (self._of_grid + 1)) as step,
        ):
            machine = describe_machine(place.engine)
            found = run_grid(place, points, rounds=self._of_grid, kind=kind, step=step)
        self._show(machine, {"grid": found.to_dict()}, lambda: grid_tables(found))
        if self.chart is not None:
            draw(found, machine, self.chart)
            self._tell_drawn(self.chart)

    def _run(self, works: Sequence[Work], places: Sequence[Place]) -> list[Result]:
        """Do each work on each driver, in the ways that are available for it."""
        chosen = [
            (place, fitting)
            for work in works
            for place in places
            if (fitting := work.with_ways(_fits(place.driver))).ways
        ]
        results: list[Result] = []
        with steps(self.aside, sum(work.rounds * len(work.ways) for _, work in chosen)) as step:
            for place, work in chosen:

                def done(way: str, name: str = f"{work.name}, {place.driver}") -> None:
                    step(f"{name}: {way}")

                results += run_work(work, place, done)
        return results

    def _show(
        self,
        machine: Mapping[str, str],
        found: Mapping[str, Any],
        tables: Callable[[], Iterable[RenderableType]],
    ) -> None:
        """Print the results as JSON or as tables, with the machine before them."""
        if self.is_json:
            typer.echo(json.dumps({"machine": machine, **found}, indent=2))
            return
        out = Console()
        out.print(machine_line(machine), highlight=False, soft_wrap=True)
        for table in tables():
            out.print(table)

    def _tell_drawn(self, file: Path) -> None:
        self.aside.print(f"drawn: {file}", markup=False, highlight=False)


def _fits(driver: str) -> Callable[[Any], bool]:
    return lambda way: way.installed and driver in way.drivers
