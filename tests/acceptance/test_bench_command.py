"""``sqla-seqreserve bench``, with sizes at which it takes a second."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner, Result

from sqla_seqreserve.bench import (
    WORKS,
    Measure,
    Place,
    Required,
    Way,
    WrongRowsError,
    open_place,
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


def test_the_table_names_the_machine_and_what_is_required(postgres_url: str) -> None:
    """Times stand beside ratios, the requirement and the machine that they were measured on."""
    before = databases(postgres_url)

    done = bench(postgres_url, "--only", "sequence-default", "--required")

    assert done.exit_code == 0, done.output
    assert "SQLAlchemy" in done.stdout
    assert "at least 5x" in done.stdout
    assert "cores" in done.stdout.splitlines()[0]
    assert "fsync" in done.stdout.splitlines()[0]
    assert databases(postgres_url) == before


def test_what_is_required_is_ours_to_know(postgres_url: str) -> None:
    """What the project requires of itself is printed for who asks for it, and for nobody else."""
    done = bench(postgres_url, "--only", "sequence-default")

    assert done.exit_code == 0, done.output
    assert "required" not in done.stdout.lower()
    assert "ratio" in done.stdout


def test_json_has_every_sample(postgres_url: str) -> None:
    """For machines there is a sample a round of each way, with medians, ratios and requirements."""
    done = bench(postgres_url, "--only", "joined", "--only", "bulk-insert-objects", "--json")

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
    done = bench(postgres_url, "--only", "add-all", "--way", "SQLAlchemy", "--json")

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
