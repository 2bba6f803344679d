"""``sqla-seqreserve bench``, with such small sizes that it takes a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from fixtures.commands import Finished, run_bench
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sqla_seqreserve.bench import (
    DRIVERS,
    WORKS,
    GridPoint,
    Place,
    Way,
    WrongRowsError,
    open_place,
    run_grid,
    run_work,
)


def databases(url: str) -> set[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(connection.scalars(text("SELECT datname FROM pg_database")))


def test_the_table_names_the_machine(postgres_url: str) -> None:
    """The table of results has times, ratios and the machine."""
    before = databases(postgres_url)

    done = run_bench(postgres_url, "--only", "sequence-default")

    assert done.returncode == 0, done.stderr
    assert "SQLAlchemy" in done.stdout
    assert "at least" not in done.stdout
    assert "cores" in done.stdout.splitlines()[0]
    assert "fsync" in done.stdout.splitlines()[0]
    assert databases(postgres_url) == before


def test_what_is_required_of_ours_is_shown_on_request(postgres_url: str) -> None:
    """The project's own targets are shown only with --targets."""
    done = run_bench(postgres_url, "--only", "sequence-default", "--targets")

    assert done.returncode == 0, done.stderr
    assert "at least 5x" in done.stdout


def test_without_a_terminal_progress_is_lines(postgres_url: str) -> None:
    """Without a terminal the progress is lines on standard error, and the first says how much there
    is to do.
    """
    done = run_bench(postgres_url, "--only", "joined")

    assert done.returncode == 0, done.stderr
    assert "4 runs" in done.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_any_driver_is_measured(postgres_url: str, driver: str) -> None:
    """Each driver is measured with the ways that exist for it, its own COPY among them."""
    done = run_bench(postgres_url, "--only", "bulk-insert", "--driver", driver, "--json")

    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)["results"]
    assert result["driver"] == driver
    names = {way["name"] for way in result["ways"]}
    assert {"sqla-seqreserve bulk_insert", "execute(insert(M), rows)"} <= names
    assert any(name.startswith(driver) for name in names)


@pytest.mark.parametrize(
    ("work", "beside"),
    [
        ("upsert", {"execute(insert(M).on_conflict_do_update(), rows)", "psycopg executemany"}),
        ("stream", {"execute(insert(M), chunk) of chunks", "psycopg binary COPY"}),
    ],
)
def test_upserts_and_streams_are_measured(postgres_url: str, work: str, beside: set[str]) -> None:
    """Upserts and streams are compared with other ways, and all of them leave the same rows."""
    done = run_bench(postgres_url, "--only", work, "--json")

    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)["results"]
    assert beside <= {way["name"] for way in result["ways"]}


CHANGES = [
    *("changed", "changed-far", "ten-changed-far", "changed-here-and-there", "versioned"),
    *("deleted", "linked", "unlinked", "insert-rows", "insert-nulls", "insert-returning"),
    *("update-rows", "insert-mappings"),
    *("update-mappings", "bulk-update", "bulk-delete", "bulk-sync"),
]


@pytest.mark.parametrize(
    ("driver", "works"),
    [("psycopg", CHANGES), ("psycopg2", ["changed"]), ("asyncpg", ["bulk-sync"])],
)
def test_changes_are_measured_beside_plain(
    postgres_url: str, driver: str, works: list[str]
) -> None:
    """Each kind of change has a work, and both sides leave the same rows."""
    asked = [option for work in works for option in ("--only", work)]

    done = run_bench(postgres_url, *asked, "--driver", driver, "--json")

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert {result["work"] for result in results} == set(works)
    assert all(len(result["ways"]) == 2 for result in results)


def test_drivers_stand_beside_each_other(postgres_url: str) -> None:
    """Several drivers can be measured in one run; by default it is the URL's."""
    both = run_bench(
        postgres_url,
        "--only",
        "chain",
        "--json",
        *["--driver", "asyncpg"] * 2,
        "--driver",
        "psycopg2",
    )
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    one = run_bench(url.render_as_string(hide_password=False), "--only", "chain", "--json")

    def drivers(done: Finished) -> set[str]:
        assert done.returncode == 0, done.stderr
        return {result["driver"] for result in json.loads(done.stdout)["results"]}

    assert drivers(both) == {"asyncpg", "psycopg2"}
    assert drivers(one) == {"psycopg2"}


def test_json_has_every_sample(postgres_url: str) -> None:
    """--json prints a sample per round for each way, with medians, ratios and requirements."""
    done = run_bench(
        postgres_url, "--only", "joined", "--only", "bulk-insert-objects", "--json", "--targets"
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {result["work"] for result in found["results"]} == {"joined", "bulk-insert-objects"}
    for result in found["results"]:
        assert result["objects"] == 12
        for way in result["ways"]:
            assert len(way["samples"]) == 2
            assert way["median"] == pytest.approx(sum(way["samples"]) / 2)
        assert [way["ratio"] for way in result["ways"] if way["name"] == result["ours"]] == [1.0]
    [required] = found["results"][0]["required"]
    assert required["against"] == "SQLAlchemy"
    assert required["ok"] == (required["reached"] >= required["times"])


def test_one_way_is_run_alone(postgres_url: str) -> None:
    """``--way`` runs one way alone, for a profile, without comparisons."""
    done = run_bench(
        postgres_url, "--only", "add-all", "--way", "SQLAlchemy", "--json", "--targets"
    )

    assert done.returncode == 0, done.stderr
    for result in json.loads(done.stdout)["results"]:
        assert [way["name"] for way in result["ways"]] == ["SQLAlchemy"]
        assert result["ways"][0]["ratio"] is None
        assert result["required"] == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--only", "everything"], "everything"),
        (["--way", "Rails"], "Rails"),
        (["--chart", "speed.pdf"], "speed.pdf"),
        (["--driver", "pg8000"], "pg8000"),
        (["--grid", "--only", "add-all"], "--grid"),
        (["--related"], "--related"),
        (["--changed"], "--changed"),
        (["--grid", "--changed", "--related"], "--changed"),
        (["--grid", "--glance"], "--grid"),
        (["--grid", "--targets"], "--targets"),
        (["--glance", "--targets"], "--targets"),
        (["--pictures", "there", "--grid"], "--pictures"),
        (["--pictures", "there", "--changed"], "--pictures"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(options: list[str], named: str) -> None:
    """A wrong option is refused by name before any server is used."""
    done = run_bench("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", *options)

    assert done.returncode == 2
    assert named in done.stderr


def test_a_way_that_writes_other_rows_fails_the_run(postgres_url: str) -> None:
    """A run fails if a way loses a row."""
    work = next(work for work in WORKS if work.name == "one").at_most(objects=None, rounds=1)
    [ours, _, plain] = [way for way in work.ways if way.needs is None]

    def loses_the_last(place: Place, objects: int) -> Mapping[str, float]:
        return plain.run(place, objects - 1)

    broken = replace(work, objects=5, repeat=1, ways=(ours, Way("forgetful", loses_the_last)))
    with (
        open_place(postgres_url) as place,
        pytest.raises(WrongRowsError, match="forgetful: left 4 rows where 5"),
    ):
        run_work(broken, place)


def test_a_save_that_loses_a_row_fails_the_grid(postgres_url: str) -> None:
    """The grid fails if a save at any point loses a row."""

    class Forgetful:
        def run(self, work: Callable[[Session], Any]) -> Any:
            raise NotImplementedError

        def timed(self, work: Callable[[Session], object]) -> float:
            return 1.0

    with open_place(postgres_url) as place:
        broken = replace(place, ours=Forgetful())
        with pytest.raises(WrongRowsError, match="psycopg, 2 rows, 1 table, 0 ms: a save wrote 0"):
            run_grid(broken, [GridPoint("psycopg", 1, 0, 2)], rounds=1)
