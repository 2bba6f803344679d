"""The grid, the glance and the pictures of ``sqla-seqreserve bench``, at small sizes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from statistics import geometric_mean

import pytest
from fixtures.commands import run_bench

from sqla_seqreserve.bench import DRIVERS, PLAIN, WORKS

GRID = ("--grid", "--rounds", "1", "--objects", "5")


def test_the_grid_has_every_point(postgres_url: str) -> None:
    """Each driver is compared at each number of rows and tables and at each distance."""
    done = run_bench(postgres_url, *GRID, "--json")

    assert done.returncode == 0, done.stderr
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
        assert cell["ratio"] == pytest.approx(cell["plain_ms"] / cell["ours_ms"])
        assert len(cell["samples"]["ours_ms"]) == len(cell["samples"]["plain_ms"]) > 0
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

    done = run_bench(postgres_url, "--glance", "--json", "--chart", str(file))

    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["glance"]
    assert [(cell["objects"], cell["round_trip_ms"]) for cell in cells] == [(1, 0), (1, 5)]
    for cell in cells:
        times = {way["name"]: way["times_plain"] for way in cell["ways"]}
        assert len(times) == 3
        assert times[PLAIN] == 1
    texts = ["".join(element.itertext()).strip() for element in ET.parse(file).iter()]
    drawn = [found for found in texts if re.fullmatch(r"\d+\.\d{1,2}x", found)]
    assert len(drawn) in {6, 12}, texts  # an element, and the one within it


def numbers(file: Path, pattern: str) -> set[str]:
    """The texts of a picture that are of this pattern."""
    texts = ("".join(element.itertext()).strip() for element in ET.parse(file).iter())
    return {text for text in texts if re.fullmatch(pattern, text)}


def test_the_glance_of_changed_objects(postgres_url: str, tmp_path: Path) -> None:
    """Each driver near and far, and one picture with the ratios that were measured."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "changed.svg"

    done = run_bench(postgres_url, "--glance", "--changed", "--json", "--chart", str(file))

    assert done.returncode == 0, done.stderr
    grid = json.loads(done.stdout)["grid"]
    assert grid["kind"] == "changed"
    assert [(c["driver"], c["round_trip_ms"], c["rows"]) for c in grid["cells"]] == [
        (driver, away, 12) for driver in DRIVERS for away in (0, 1)
    ]
    shown = {
        f"{c['ratio']:.2f}x" if c["ratio"] < 2 else f"{c['ratio']:.1f}x" for c in grid["cells"]
    }
    assert shown <= numbers(file, r"\d+\.\d{1,2}x")


def test_one_run_feeds_all_pictures(postgres_url: str, tmp_path: Path) -> None:
    """The glance shows figures of the grid, and no picture measures what another one does."""
    pytest.importorskip("matplotlib")

    done = run_bench(postgres_url, "--pictures", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "changed.svg",
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
        times = {way["name"]: way["times_plain"] for way in cell["ways"]}
        ratio = of_grid[cell["objects"], cell["round_trip_ms"]]
        assert times["sqla-seqreserve"] == ratio
        assert f"{ratio:.2f}" in numbers(tmp_path / "grid.svg", r"\d+\.\d\d")
        shown = f"{ratio:.2f}x" if ratio < 2 else f"{ratio:.1f}x"
        assert shown in numbers(tmp_path / "glance.svg", r"\d+\.\d{1,2}x")
    works = {result["work"] for result in measured["results"]}
    assert works == {work.name for work in WORKS} - {"one", "fifty", "one-far", "large"}


def test_the_glance_takes_one_driver(postgres_url: str) -> None:
    """Several drivers, or works that are something else, are refused."""
    done = run_bench(postgres_url, "--glance", "--driver", "psycopg", "--driver", "psycopg2")

    assert done.returncode == 2
    assert "one driver" in done.stderr


def test_the_grid_is_a_table_and_a_picture(postgres_url: str, tmp_path: Path) -> None:
    """One driver's table, and a cell of the picture for each of its points."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "grid.svg"

    done = run_bench(postgres_url, *GRID, "--driver", "psycopg", "--related", "--chart", str(file))

    assert done.returncode == 0, done.stderr
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

    done = run_bench(postgres_url, *GRID, "--driver", "psycopg2", "--changed", "--chart", str(file))

    assert done.returncode == 0, done.stderr
    assert "psycopg2: geometric mean" in done.stdout
    assert "flush of changed objects" in file.read_text(encoding="utf-8")


def test_the_chart_holds_every_way(postgres_url: str, tmp_path: Path) -> None:
    """The picture names each way that was measured, in text that can be selected."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.svg"

    done = run_bench(postgres_url, "--only", "joined", "--chart", str(file))

    assert done.returncode == 0, done.stderr
    texts = {"".join(element.itertext()).strip() for element in ET.parse(file).iter()}
    assert {"sqla-seqreserve", "SQLAlchemy"} <= texts
