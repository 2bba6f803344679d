"""``sqla-seqreserve bench``: measure ours beside stock SQLAlchemy and others, on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from sqla_seqreserve.bench import (
    WORKS,
    Place,
    Result,
    Work,
    describe_machine,
    open_place,
    run_work,
)
from sqla_seqreserve.bench.chart import FORMATS, draw_chart
from sqla_seqreserve.errors import ConfigurationError

from ._app import app
from ._bench_table import bench_table, machine_line
from ._options import JsonOption, errors_as_exit_codes, make_console
from ._progress import Shown, progress

__all__ = ["bench"]

_QUICK_OBJECTS = 1_000
_QUICK_ROUNDS = 3
_QUICK_REPEAT = 3
# A glance ends within a minute: no work begins after so many seconds.
_QUICK_SECONDS = 35.0

_NAMES = ", ".join(work.name for work in WORKS)


@app.command()
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
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"At most {_QUICK_OBJECTS:,} objects and {_QUICK_ROUNDS} rounds, and no work that "
            "would begin late: a glance within a minute. Ratios at small sizes are smaller.",
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
    required: Annotated[
        bool,
        typer.Option("--required", help="Also print what this project requires of itself."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Measure the speed of writing rows: ours, stock SQLAlchemy's, and others'.

    Each way writes the same rows, looked at afterwards; all ways take turns, and are compared by
    ratios of medians, because a time says little without its machine. Speed is measured here and
    not judged: it does not change the exit code.

    Django and asyncpg take part where they are installed (extra \\[bench]).
    """
    with errors_as_exit_codes():
        if chart is not None and chart.suffix not in FORMATS:
            raise ConfigurationError(f"--chart {chart}: expected {' or '.join(FORMATS)} at the end")
        if quick:
            rounds, objects = rounds or _QUICK_ROUNDS, objects or _QUICK_OBJECTS
        works = [
            work.at_most(objects=objects, rounds=rounds)
            for work in _chosen(only or [], way or [], large)
        ]
        missing = {way.needs for work in works for way in work.ways if not way.installed}
        works = [work.with_ways(lambda way: way.installed) for work in works]
        if quick:
            works = [replace(work, repeat=min(work.repeat, _QUICK_REPEAT)) for work in works]
        aside = make_console(stderr=True)
        left_out: list[str] = []
        with open_place(url) as place, progress(aside, "runs", threads=False) as shown:
            machine = describe_machine(place.engine)
            # A thread that redraws while a way runs would be measured with it.
            results = _run(works, place, shown, left_out, _QUICK_SECONDS if quick else None)
        if json_:
            found = {"machine": machine, "results": [result.to_dict() for result in results]}
            typer.echo(json.dumps(found, indent=2))
        else:
            out = Console()
            out.print(machine_line(machine), highlight=False, soft_wrap=True)
            out.print(bench_table(results, required=required))
        if left_out:
            aside.print(f"left out, to end within a minute: {', '.join(left_out)}")
        if missing:
            aside.print(f"not installed, so left out: {', '.join(sorted(filter(None, missing)))}")
        if chart is not None:
            draw_chart(results, machine, chart)
            aside.print(f"drawn: {chart}", markup=False, highlight=False)


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


def _run(
    works: Sequence[Work],
    place: Place,
    shown: Shown,
    left_out: list[str],
    seconds: float | None,
) -> list[Result]:
    """Run the works; those that would begin after so many seconds go to ``left_out``."""
    total = sum(work.rounds * len(work.ways) for work in works)
    done = 0
    results: list[Result] = []
    began = monotonic()
    for work in works:
        if seconds is not None and monotonic() - began > seconds:
            left_out.append(work.name)
            continue

        def step(way: str, work: Work = work) -> None:
            nonlocal done
            done += 1
            shown.update(f"{work.name}: {way}", done, total)

        results += run_work(work, place, step)
    return results
