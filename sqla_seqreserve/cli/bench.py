"""``sqla-seqreserve bench``: this package beside plain SQLAlchemy and others, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import URL

from sqla_seqreserve.bench import DRIVERS, WORKS, Work, check_driver, driver_of
from sqla_seqreserve.bench.chart import FORMATS
from sqla_seqreserve.errors import ConfigurationError

from ._app import DEVELOP, app
from ._bench_measuring import QUICK_OBJECTS, QUICK_ROUNDS, Measuring
from ._database import url_of
from ._options import JsonOption, errors_as_exit_codes, make_console

__all__ = ["bench"]

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
            help="With --grid or --glance: the flush of objects that were loaded and changed, not "
            "of new ones; the glance is then of 1,000 objects on each driver.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"At most {QUICK_OBJECTS:,} objects and {QUICK_ROUNDS} rounds: a glance within "
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
            help="Measure the grid, the glance and the works in one run, and draw the four "
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

    Each way writes the same rows, which are checked afterwards. All ways take turns, and are
    compared by ratios of medians, because a time alone depends on the machine.

    Django, psycopg2 and asyncpg take part if they are installed (extra \\[bench]).
    """
    with errors_as_exit_codes():
        if chart is not None and chart.suffix not in FORMATS:
            raise ConfigurationError(f"--chart {chart}: expected {' or '.join(FORMATS)} at the end")
        server = url_of(url) if url else None
        drivers = _drivers(driver or [], server, grid or pictures is not None)
        measuring = Measuring(
            server, rounds, objects, quick, chart, json_, make_console(stderr=True)
        )
        chosen = bool(only or way or large)
        if pictures is not None:
            if grid or glance or related or changed or chosen or chart or json_ or targets:
                raise ConfigurationError("--pictures: it measures what it draws, on its own")
            measuring.pictures(drivers, pictures)
        elif targets and (grid or glance):
            raise ConfigurationError("--targets: it goes with neither --grid nor --glance")
        elif grid:
            if chosen:
                raise ConfigurationError("--grid: it goes with neither --only, --way nor --large")
            if glance:
                raise ConfigurationError("--grid: it does not go with --glance")
            if related and changed:
                raise ConfigurationError("--changed: it does not go with --related")
            measuring.grid(drivers, "changed" if changed else "related" if related else "new")
        elif related:
            raise ConfigurationError("--related: it goes with --grid only")
        elif changed and not glance:
            raise ConfigurationError("--changed: it goes with --grid or --glance only")
        elif glance and chosen:
            raise ConfigurationError("--glance: it goes with neither --only, --way nor --large")
        elif glance and changed:
            measuring.changed(_drivers(driver or [], server, True))
        elif glance:
            if len(drivers) > 1:
                raise ConfigurationError("--glance: one driver; with --changed it may be several")
            measuring.glance(drivers[0])
        else:
            measuring.works(_chosen(only or [], way or [], large), drivers, targets=targets)


def _drivers(names: Sequence[str], url: URL | None, grid: bool) -> list[str]:
    """The drivers that were given, or the default ones."""
    for name in names:
        check_driver(name)
    if names:
        return list(dict.fromkeys(names))
    if grid:
        return [name for name in DRIVERS if find_spec(name) is not None]
    found = driver_of(url)
    check_driver(found)
    return [found]


def _chosen(only: Sequence[str], ways: Sequence[str], large: bool) -> list[Work]:
    """Return the selected works, each in the selected ways."""
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
