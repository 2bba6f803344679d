"""Runs works: every way once, then every way again, so that other load on the machine affects all
of them; and checks that they wrote the same rows.

Each round begins with another way, because a run is also affected by the run before it: by dirty
pages that are still to be written, and memory that is still to be freed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from sqlalchemy import text

from sqla_seqreserve.errors import SeqReserveError

from .place import Place
from .results import Result
from .work import Way, Work

__all__ = ["WrongRowsError", "run_work"]

_WARM_UP = 20


class WrongRowsError(SeqReserveError):
    """A way of doing the work left other rows than it should, so its speed means nothing."""


def run_work(work: Work, place: Place, step: Callable[[str], object] | None = None) -> list[Result]:
    """Do the work in each of its ways, ``work.rounds`` times, interleaved, on the place's driver.

    :param work: only with ways that are for this driver.
    :param step: called with the name of the way after each run.
    :raises WrongRowsError: a way did not leave the rows that the first one left.
    """
    place = place.by_socket() if work.by_socket else place.at(work.round_trip_ms)
    samples: dict[str, dict[str, list[float]]] = {}
    first: tuple[int, str | None] | None = None
    for round_ in range(work.rounds):
        begin = round_ % len(work.ways)
        for way in work.ways[begin:] + work.ways[:begin]:
            found = _run_once(work, way, place)
            for measure in work.measures:
                if measure.name in found:
                    samples.setdefault(measure.name, {}).setdefault(way.name, []).append(
                        _in_unit(measure.unit, found[measure.name], work, way)
                    )
            if round_ == 0 and way.objects is None:
                left = _contents(work, place)
                expected = work.objects * work.repeat * work.rows
                if left[0] != expected or (first is not None and left != first):
                    raise WrongRowsError(
                        f"{work.name}, {way.name}: left {left[0]} rows where {expected} were "
                        "expected, or other values than the way before it"
                    )
                first = left
            if step is not None:
                step(way.name)
    return [
        Result(work, measure, samples[measure.name], place.driver)
        for measure in work.measures
        if measure.name in samples
    ]


def _run_once(work: Work, way: Way, place: Place) -> dict[str, float]:
    objects = way.objects or work.objects
    _execute(place, f"TRUNCATE {', '.join(work.tables)}")
    # To code that remembers tables, an emptied table is a new one; no application empties its
    # tables between its commits.
    way.run(place, min(_WARM_UP, objects))
    for table in reversed(work.tables):
        _execute(place, f"DELETE FROM {table}")  # noqa: S608  # the tables are ours
    gc.collect()
    total: dict[str, float] = {}
    for _ in range(work.repeat):
        for name, value in way.run(place, objects).items():
            total[name] = total.get(name, 0.0) + value
    return total


def _in_unit(unit: str, value: float, work: Work, way: Way) -> float:
    if unit == "MB":
        return value / 1_000_000
    return value * 1_000_000 / ((way.objects or work.objects) * work.repeat * work.rows)


def _contents(work: Work, place: Place) -> tuple[int, str | None]:
    statement = (
        "SELECT count(*), md5(string_agg(CAST(written AS text), ';' ORDER BY written))"  # noqa: S608  # the SQL is ours
        f" FROM ({work.contents}) AS written"
    )
    with place.engine.connect() as connection:
        count, digest = connection.execute(text(statement)).one()
    return count, digest


def _execute(place: Place, statement: str) -> None:
    with place.engine.begin() as connection:
        connection.exec_driver_sql(statement)
