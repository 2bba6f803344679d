"""``sqla-seqreserve bench``: this package beside plain SQLAlchemy and others, on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from sqlalchemy import make_url

from sqla_seqreserve.bench import (
    DRIVERS,
    WORKS,
    Place,
    Result,
    Work,
    check_driver,
    describe_machine,
    driver_of,
    grid_points,
    open_place,
    run_grid,
    run_work,
)
from sqla_seqreserve.bench.chart import FORMATS, draw_chart
from sqla_seqreserve.bench.glance import OBJECTS, draw_glance, glance_of, glance_points
from sqla_seqreserve.bench.grid import ROWS
from sqla_seqreserve.bench.heat_map import draw_heat_map
from sqla_seqreserve.bench.pictures import SPEED_WORKS, Pictures
from sqla_seqreserve.bench.saves import Kind
from sqla_seqreserve.errors import ConfigurationError

from ._app import DEVELOP, app
from ._bench_progress import steps
from ._bench_table import bench_table, machine_line
from ._grid_table import glance_table, grid_tables
from ._options import JsonOption, errors_as_exit_codes

__all__ = ["bench"]

_QUICK_OBJECTS = 1_000
_QUICK_ROUNDS = 3
_GRID_ROUNDS = 15

_NAMES = ", ".join(work.name for work in WORKS)


@app.command(rich_help_panel=DEVELOP)
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help=f"Only this work; may be repeated: {_NAMES}."),
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            metavar="TEXT",
            help="Only ways whose name begins with this; may be repeated. For profiling: "
            "--way sqla-seqreserve leaves nothing else in the profile, and no ratio.",
        ),
    ] = None,
    driver: Annotated[
        list[str] | None,
        typer.Option(
            "--driver",
            metavar="NAME",
            help=f"On this driver; may be repeated: {', '.join(DRIVERS)}. Default: the URL's, else "
            "psycopg; with --grid all that are installed.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Registered beside plain only, at every combination of rows, tables, distance and "
            "driver: about ten minutes.",
        ),
    ] = False,
    glance: Annotated[
        bool,
        typer.Option(
            "--glance",
            help="Registered, plain, and SQLAlchemy's bulk INSERT at 1, 50 and 5,000 objects, near "
            "and far: a minute. --chart draws the picture of the README.",
        ),
    ] = False,
    related: Annotated[
        bool,
        typer.Option(
            "--related",
            help="With --grid: the three tables are parents, children and their children, not "
            "strangers to each other.",
        ),
    ] = False,
    changed: Annotated[
        bool,
        typer.Option(
            "--changed",
            help="With --grid: the flush of objects that were loaded and changed, not of new ones.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"At most {_QUICK_OBJECTS:,} objects and {_QUICK_ROUNDS} rounds: a glance within "
            "a minute. Ratios at small sizes are smaller.",
        ),
    ] = False,
    large: Annotated[
        bool,
        typer.Option(
            "--large",
            help="Also a million objects at once, with peak memory: minutes, and about 5 GB.",
        ),
    ] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds of each work; more give steadier medians.")
    ] = None,
    objects: Annotated[int | None, typer.Option(min=1, help="At most so many objects.")] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A PostgreSQL server, as a role that may create databases: the run makes one of "
            "its own there and drops it. Default: the server that SQLA_SEQRESERVE_URL names, else "
            "an embedded one with fsync on.",
            show_default=False,
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg|png",
            help="Also draw the results (extra \\[bench]).",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Measure the grid, the glance and the works in one run, and draw the three "
            "pictures of the documentation into this folder: half an hour.",
            show_default=False,
        ),
    ] = None,
    targets: Annotated[
        bool,
        typer.Option(
            "--targets",
            help="Also show what this project requires of itself. It does not change the exit "
            "code: speed is measured here and not judged.",
        ),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Measure the speed of writing rows: this package, plain SQLAlchemy and others.

    Each way writes the same rows, looked at afterwards; all ways take turns, and are compared by
    ratios of medians, because a time says little without its machine.

    Django, psycopg2 and asyncpg take part where they are installed (extra \\[bench]).
    """
    with errors_as_exit_codes():
        if chart is not None and chart.suffix not in FORMATS:
            raise ConfigurationError(f"--chart {chart}: expected {' or '.join(FORMATS)} at the end")
        drivers = _drivers(driver or [], url, grid or pictures is not None)
        aside = Console(stderr=True)
        if pictures is not None:
            if grid or glance or related or only or way or large or chart or json_:
                raise ConfigurationError("--pictures: it measures what it draws, on its own")
            _measure_pictures(url, drivers, rounds, objects, pictures, aside, quick=quick)
            return
        if grid:
            if only or way or large:
                raise ConfigurationError("--grid: it goes with neither --only, --way nor --large")
            if related and changed:
                raise ConfigurationError("--changed: it does not go with --related")
            _measure_grid(
                url,
                drivers,
                rounds,
                objects,
                chart,
                aside,
                quick=quick,
                kind="changed" if changed else "related" if related else "new",
                json_=json_,
            )
            return
        if related or changed:
            option = "--related" if related else "--changed"
            raise ConfigurationError(f"{option}: it goes with --grid only")
        if glance:
            if only or way or large or len(drivers) > 1:
                raise ConfigurationError(
                    "--glance: one driver, and neither --only, --way nor --large"
                )
            most = objects or (_QUICK_OBJECTS if quick else None)
            _measure_glance(url, drivers[0], rounds, most, chart, aside, quick=quick, json_=json_)
            return
        if quick:
            rounds, objects = rounds or _QUICK_ROUNDS, objects or _QUICK_OBJECTS
        works = [
            work.at_most(objects=objects, rounds=rounds)
            for work in _chosen(only or [], way or [], large)
        ]
        missing = {
            way.needs
            for work in works
            for way in work.ways
            if not way.installed and set(way.drivers) & set(drivers)
        }
        with open_place(url, driver=drivers[0]) as place:
            machine = describe_machine(place.engine)
            results = _run(works, [place.on(name) for name in drivers], aside)
        if json_:
            found = [result.to_dict(required=targets) for result in results]
            typer.echo(json.dumps({"machine": machine, "results": found}, indent=2))
        else:
            out = Console()
            out.print(machine_line(machine), highlight=False, soft_wrap=True)
            out.print(bench_table(results, targets=targets))
        if missing:
            aside.print(f"not installed, so left out: {', '.join(sorted(filter(None, missing)))}")
        if chart is not None:
            draw_chart(results, machine, chart)
            aside.print(f"drawn: {chart}", markup=False, highlight=False)


def _drivers(names: Sequence[str], url: str | None, grid: bool) -> list[str]:
    """The drivers that are asked for, or what is meant if none is."""
    for name in names:
        check_driver(name)
    if names:
        return list(dict.fromkeys(names))
    if grid:
        return [name for name in DRIVERS if find_spec(name) is not None]
    found = driver_of(make_url(url) if url else None)
    check_driver(found)
    return [found]


def _chosen(only: Sequence[str], ways: Sequence[str], large: bool) -> list[Work]:
    """Return the works that are asked for, each in the ways that are asked for."""
    names = {work.name for work in WORKS}
    unknown = sorted(set(only) - names)
    if unknown:
        raise ConfigurationError(f"--only {', '.join(unknown)}: expected one of {_NAMES}")
    works = [
        work.with_ways(lambda way: not ways or way.name.startswith(tuple(ways)))
        for work in WORKS
        if (work.name in only if only else large or not work.only_large)
    ]
    works = [work for work in works if work.ways]
    if not works:
        raise ConfigurationError(f"--way {', '.join(ways)}: no way has a name that begins so")
    return works


def _run(works: Sequence[Work], places: Sequence[Place], aside: Console) -> list[Result]:
    """Do each work on each driver, in the ways that are there for it."""
    chosen = [
        (place, fitting)
        for work in works
        for place in places
        if (fitting := work.with_ways(_fits(place.driver))).ways
    ]
    results: list[Result] = []
    with steps(aside, sum(work.rounds * len(work.ways) for _, work in chosen)) as step:
        for place, work in chosen:

            def done(way: str, name: str = f"{work.name}, {place.driver}") -> None:
                step(f"{name}: {way}")

            results += run_work(work, place, done)
    return results


def _fits(driver: str) -> Callable[[Any], bool]:
    return lambda way: way.installed and driver in way.drivers


def _measure_glance(
    url: str | None,
    driver: str,
    rounds: int | None,
    most: int | None,
    chart: Path | None,
    aside: Console,
    *,
    quick: bool,
    json_: bool,
) -> None:
    points = glance_points(driver, [n for n in OBJECTS if most is None or n <= most])
    rounds = rounds or (_QUICK_ROUNDS if quick else _GRID_ROUNDS)
    with (
        open_place(url, driver=driver) as place,
        steps(aside, len(points) * (rounds + 1)) as step,
    ):
        machine = describe_machine(place.engine)
        found = glance_of(run_grid(place, points, rounds=rounds, with_bulk=points, step=step))
    if json_:
        cells = [cell.to_dict() for cell in found]
        typer.echo(json.dumps({"machine": machine, "driver": driver, "glance": cells}, indent=2))
    else:
        out = Console()
        out.print(machine_line(machine), highlight=False, soft_wrap=True)
        out.print(glance_table(found, driver))
    if chart is not None:
        draw_glance(found, driver, machine, chart)
        aside.print(f"drawn: {chart}", markup=False, highlight=False)


def _measure_grid(
    url: str | None,
    drivers: Sequence[str],
    rounds: int | None,
    objects: int | None,
    chart: Path | None,
    aside: Console,
    *,
    quick: bool,
    kind: Kind,
    json_: bool,
) -> None:
    most = objects or (_QUICK_OBJECTS if quick else max(ROWS))
    points = grid_points(drivers, rows=[rows for rows in ROWS if rows <= most])
    rounds = rounds or (_QUICK_ROUNDS if quick else _GRID_ROUNDS)
    with open_place(url) as place, steps(aside, len(points) * (rounds + 1)) as step:
        machine = describe_machine(place.engine)
        found = run_grid(place, points, rounds=rounds, kind=kind, step=step)
    if json_:
        typer.echo(json.dumps({"machine": machine, "grid": found.to_dict()}, indent=2))
    else:
        out = Console()
        out.print(machine_line(machine), highlight=False, soft_wrap=True)
        for table in grid_tables(found):
            out.print(table)
    if chart is not None:
        draw_heat_map(found, machine, chart)
        aside.print(f"drawn: {chart}", markup=False, highlight=False)


def _measure_pictures(
    url: str | None,
    drivers: Sequence[str],
    rounds: int | None,
    objects: int | None,
    folder: Path,
    aside: Console,
    *,
    quick: bool,
) -> None:
    most = objects or (_QUICK_OBJECTS if quick else None)
    rounds = rounds or (_QUICK_ROUNDS if quick else None)
    points = grid_points(drivers, rows=[n for n in ROWS if n <= (most or max(ROWS))])
    of_glance = glance_points(drivers[0], [n for n in OBJECTS if n <= (most or max(OBJECTS))])
    of_grid = rounds or _GRID_ROUNDS
    works = [work.at_most(objects=most, rounds=rounds) for work in SPEED_WORKS]
    with open_place(url, driver=drivers[0]) as place:
        machine = describe_machine(place.engine)
        with steps(aside, len(points) * (of_grid + 1)) as step:
            grid = run_grid(place, points, rounds=of_grid, with_bulk=of_glance, step=step)
        results = _run(works, [place], aside)
    for file in Pictures(machine, drivers[0], grid, results).draw(folder):
        aside.print(f"written: {file}", markup=False, highlight=False)
