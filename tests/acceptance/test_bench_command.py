"""``sqla-seqreserve bench``, with sizes at which it takes a second."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner, Result

from sqla_seqreserve.bench import (
    DRIVERS,
    STOCK,
    WORKS,
    GridPoint,
    Measure,
    Place,
    Required,
    Way,
    WrongRowsError,
    open_place,
    run_grid,
    run_work,
)
from sqla_seqreserve.bench import Result as Measured
from sqla_seqreserve.cli import app


def bench(url: str, *options: str) -> Result:
    sizes = ["--quick", "--objects", "12", "--rounds", "2"]
    wide = {"COLUMNS": "160"}
    return CliRunner().invoke(app, ["bench", "--url", url, *sizes, *options], env=wide)


def databases(url: str) -> set[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(connection.scalars(text("SELECT datname FROM pg_database")))


def test_the_table_names_the_machine(postgres_url: str) -> None:
    """Times stand beside ratios and the machine that they were measured on."""
    before = databases(postgres_url)

    done = bench(postgres_url, "--only", "sequence-default")

    assert done.exit_code == 0, done.output
    assert "SQLAlchemy" in done.stdout
    assert "at least" not in done.stdout
    assert "cores" in done.stdout.splitlines()[0]
    assert "fsync" in done.stdout.splitlines()[0]
    assert databases(postgres_url) == before


def test_what_is_required_of_ours_is_shown_on_request(postgres_url: str) -> None:
    """The project's own targets are of no use to a user, unless they ask."""
    done = bench(postgres_url, "--only", "sequence-default", "--targets")

    assert done.exit_code == 0, done.output
    assert "at least 5x" in done.stdout


def test_without_a_terminal_progress_is_lines(postgres_url: str) -> None:
    """How much there is to do is said at once, on standard error."""
    done = bench(postgres_url, "--only", "joined")

    assert done.exit_code == 0, done.output
    assert "4 runs" in done.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_any_driver_is_measured(postgres_url: str, driver: str) -> None:
    """Each driver is measured with the ways that exist for it, its own COPY among them."""
    done = bench(postgres_url, "--only", "bulk-insert", "--driver", driver, "--json")

    assert done.exit_code == 0, done.output
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
    """Each stands beside what others do, and all of them left the same rows."""
    done = bench(postgres_url, "--only", work, "--json")

    assert done.exit_code == 0, done.output
    [result] = json.loads(done.stdout)["results"]
    assert beside <= {way["name"] for way in result["ways"]}


CHANGES = [
    *("changed", "changed-far", "ten-changed-far", "versioned", "deleted", "linked"),
    *("unlinked", "insert-rows", "insert-returning", "update-rows", "insert-mappings"),
    *("update-mappings", "bulk-update", "bulk-delete", "bulk-sync"),
]


@pytest.mark.parametrize(
    ("driver", "works"),
    [("psycopg", CHANGES), ("psycopg2", ["changed"]), ("asyncpg", ["bulk-sync"])],
)
def test_changes_are_measured_beside_stock(
    postgres_url: str, driver: str, works: list[str]
) -> None:
    """Each kind of change has a work, and both sides left the same rows."""
    asked = [option for work in works for option in ("--only", work)]

    done = bench(postgres_url, *asked, "--driver", driver, "--json")

    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    assert {result["work"] for result in results} == set(works)
    assert all(len(result["ways"]) == 2 for result in results)


def test_drivers_stand_beside_each_other(postgres_url: str) -> None:
    """Several drivers are measured in one run; without one, it is the URL's."""
    both = bench(
        postgres_url,
        "--only",
        "chain",
        "--json",
        *["--driver", "asyncpg"] * 2,
        "--driver",
        "psycopg2",
    )
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    one = bench(url.render_as_string(hide_password=False), "--only", "chain", "--json")

    def drivers(done: Result) -> set[str]:
        assert done.exit_code == 0, done.output
        return {result["driver"] for result in json.loads(done.stdout)["results"]}

    assert drivers(both) == {"asyncpg", "psycopg2"}
    assert drivers(one) == {"psycopg2"}


GRID = ("--grid", "--rounds", "1", "--objects", "5")


def test_the_grid_has_every_point(postgres_url: str) -> None:
    """Each driver is compared at each number of rows and tables and at each distance."""
    done = bench(postgres_url, *GRID, "--json")

    assert done.exit_code == 0, done.output
    grid = json.loads(done.stdout)["grid"]
    points = {
        (cell["driver"], cell["tables"], cell["round_trip_ms"], cell["rows"])
        for cell in grid["cells"]
    }
    assert points == {
        (driver, tables, distance, rows)
        for driver in DRIVERS
        for tables in (1, 3)
        for distance in (0, 1, 5)
        for rows in (1, 2, 5)
        if tables <= rows or rows == 2
    }
    for cell in grid["cells"]:
        assert cell["ratio"] == pytest.approx(cell["stock_ms"] / cell["ours_ms"])
        assert len(cell["samples"]["ours_ms"]) == len(cell["samples"]["stock_ms"]) > 0
    for driver in DRIVERS:
        ratios = [cell["ratio"] for cell in grid["cells"] if cell["driver"] == driver]
        assert grid["drivers"][driver] == {
            "geometric_mean": pytest.approx(geometric_mean(ratios)),
            "worst": min(ratios),
        }


def test_the_glance_is_a_table_and_a_picture(postgres_url: str, tmp_path: Path) -> None:
    """Three ways at each size, near and far, and one picture of them."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "glance.svg"

    done = bench(postgres_url, "--glance", "--json", "--chart", str(file))

    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)["glance"]
    assert [(cell["objects"], cell["round_trip_ms"]) for cell in cells] == [(1, 0), (1, 5)]
    for cell in cells:
        times = {way["name"]: way["times_stock"] for way in cell["ways"]}
        assert len(times) == 3
        assert times[STOCK] == 1
    texts = ["".join(element.itertext()).strip() for element in ET.parse(file).iter()]
    drawn = [found for found in texts if re.fullmatch(r"\d+\.\d{1,2}x", found)]
    assert len(drawn) in {6, 12}, texts  # an element, and the one within it


def numbers(file: Path, pattern: str) -> set[str]:
    """The texts of a picture that are of this pattern."""
    texts = ("".join(element.itertext()).strip() for element in ET.parse(file).iter())
    return {text for text in texts if re.fullmatch(pattern, text)}


def test_one_run_feeds_all_pictures(postgres_url: str, tmp_path: Path) -> None:
    """The glance shows figures of the grid, and no picture measures what another one does."""
    pytest.importorskip("matplotlib")

    done = bench(postgres_url, "--pictures", str(tmp_path))

    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "glance.svg",
        "grid.svg",
        "speed.svg",
        "measured.json",
    }
    measured = json.loads((tmp_path / "measured.json").read_text())
    of_grid = {
        (cell["rows"], cell["round_trip_ms"]): cell["ratio"]
        for cell in measured["grid"]["cells"]
        if cell["driver"] == measured["driver"] and cell["tables"] == 1
    }
    assert [(cell["objects"], cell["round_trip_ms"]) for cell in measured["glance"]] == [
        (1, 0),
        (1, 5),
    ]
    for cell in measured["glance"]:
        times = {way["name"]: way["times_stock"] for way in cell["ways"]}
        ratio = of_grid[cell["objects"], cell["round_trip_ms"]]
        assert times["sqla-seqreserve"] == ratio
        assert f"{ratio:.2f}" in numbers(tmp_path / "grid.svg", r"\d+\.\d\d")
        shown = f"{ratio:.2f}x" if ratio < 2 else f"{ratio:.1f}x"
        assert shown in numbers(tmp_path / "glance.svg", r"\d+\.\d{1,2}x")
    works = {result["work"] for result in measured["results"]}
    assert works == {work.name for work in WORKS} - {"one", "fifty", "one-far", "large"}


def test_the_glance_takes_one_driver(postgres_url: str) -> None:
    """Several drivers, or works that are something else, are refused."""
    done = bench(postgres_url, "--glance", "--driver", "psycopg", "--driver", "psycopg2")

    assert done.exit_code == 2
    assert "one driver" in done.output


def test_the_grid_is_a_table_and_a_picture(postgres_url: str, tmp_path: Path) -> None:
    """One driver's table, and a cell of the picture for each of its points."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "grid.svg"

    done = bench(postgres_url, *GRID, "--driver", "psycopg", "--related", "--chart", str(file))

    assert done.exit_code == 0, done.output
    assert "psycopg: geometric mean" in done.stdout
    assert "asyncpg:" not in done.stdout
    texts = ["".join(element.itertext()).strip() for element in ET.parse(file).iter()]
    assert sum(bool(re.fullmatch(r"\d+\.\d\d", found)) for found in texts) >= 15
    assert any("parents, children and their children" in found for found in texts)
    assert "3 tables, 5 ms away" in texts


def test_the_grid_of_changed_objects_changes_every_row(postgres_url: str, tmp_path: Path) -> None:
    """Each save is looked at: so many rows differ afterwards."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "grid.svg"

    done = bench(postgres_url, *GRID, "--driver", "psycopg2", "--changed", "--chart", str(file))

    assert done.exit_code == 0, done.output
    assert "psycopg2: geometric mean" in done.stdout
    assert "flush of changed objects" in file.read_text(encoding="utf-8")


def test_json_has_every_sample(postgres_url: str) -> None:
    """For machines there is a sample a round of each way, with medians, ratios and requirements."""
    done = bench(
        postgres_url, "--only", "joined", "--only", "bulk-insert-objects", "--json", "--targets"
    )

    assert done.exit_code == 0, done.output
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
    """For a profile, ``--way`` leaves the others out, and there is nothing to compare with."""
    done = bench(postgres_url, "--only", "add-all", "--way", "SQLAlchemy", "--json", "--targets")

    assert done.exit_code == 0, done.output
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
        (["--pictures", "there", "--grid"], "--pictures"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(options: list[str], named: str) -> None:
    """What cannot be run is named, without a look at any server."""
    done = bench("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", *options)

    assert done.exit_code == 2
    assert named in done.stderr


def test_the_chart_holds_every_way(postgres_url: str, tmp_path: Path) -> None:
    """The picture names each way that was measured, in text that can be selected."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.svg"

    done = bench(postgres_url, "--only", "joined", "--chart", str(file))

    assert done.exit_code == 0, done.output
    texts = {"".join(element.itertext()).strip() for element in ET.parse(file).iter()}
    assert {"sqla-seqreserve", "SQLAlchemy"} <= texts


def test_a_way_that_writes_other_rows_fails_the_run(postgres_url: str) -> None:
    """Speed is not judged, but a way that loses a row does not get a figure."""
    work = next(work for work in WORKS if work.name == "one").at_most(objects=None, rounds=1)
    [ours, _, stock] = [way for way in work.ways if way.needs is None]

    def loses_the_last(place: Place, objects: int) -> Mapping[str, float]:
        return stock.run(place, objects - 1)

    broken = replace(work, objects=5, repeat=1, ways=(ours, Way("forgetful", loses_the_last)))
    with (
        open_place(postgres_url) as place,
        pytest.raises(WrongRowsError, match="forgetful: left 4 rows where 5"),
    ):
        run_work(broken, place)


def test_a_save_that_loses_a_row_fails_the_grid(postgres_url: str) -> None:
    """Every point is looked at before it is measured."""

    class Forgetful:
        def run(self, work: Callable[[Session], Any]) -> Any:
            raise NotImplementedError

        def timed(self, work: Callable[[Session], object]) -> float:
            return 1.0

    with open_place(postgres_url) as place:
        broken = replace(place, ours=Forgetful())
        with pytest.raises(WrongRowsError, match="psycopg, 2 rows, 1 table, 0 ms: a save wrote 0"):
            run_grid(broken, [GridPoint("psycopg", 1, 0, 2)], rounds=1)


def measured(ours: list[float], stock: list[float], *required: Required) -> Measured:
    samples: dict[str, Any] = {"ours": ours, "stock": stock}
    return Measured(WORKS[0], Measure("commit", "", required, ours="ours"), samples)


def test_ratios_are_of_medians_and_of_rounds() -> None:
    """The ratio of medians and the median of the rounds' ratios are told apart."""
    result = measured([1.0, 2.0, 30.0], [4.0, 6.0, 30.0])

    assert result.ratio("stock") == 3.0
    assert result.pairwise_ratio("stock") == 3.0
    assert measured([1, 2, 4], [4, 2, 4]).pairwise_ratio("stock") == 1.0
    assert measured([1, 2, 4], [4, 2, 4]).ratio("stock") == 2.0


def test_other_drivers_have_figures_of_their_own() -> None:
    """What is required on psycopg is not required elsewhere, unless a figure says so."""
    here, nowhere = Required("stock", 3.5, others=2.5), Required("stock", 1.15, "at most")

    assert here.on("psycopg") == here
    assert here.on("asyncpg") == replace(here, times=2.5)
    assert nowhere.on("psycopg2") is None


@pytest.mark.parametrize(
    ("required", "reached", "ok"),
    [
        (Required("stock", 2.0), 2.0, True),
        (Required("stock", 2.1), 2.0, False),
        (Required("stock", 0.5, "at most"), 0.5, True),
        (Required("stock", 0.4, "at most"), 0.5, False),
    ],
)
def test_what_is_required_is_compared(required: Required, reached: float, ok: bool) -> None:
    """\"At least\" counts how many times as fast ours is, "at most" its share of the time."""
    [found] = measured([5.0], [10.0], required).requirements

    assert (found.reached, found.ok) == (reached, ok)
