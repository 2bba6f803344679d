"""Every way of every benchmark writes the right rows; without that its speed means nothing. Time is
measured and printed (``-s``), and never asserted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import text

from sqla_seqreserve.bench import DRIVERS, WORKS, Place, Way, Work, open_place, run_work
from sqla_seqreserve.bench.data import (
    account_values,
    bond_values,
    node_values,
    payment_values,
    posting_values,
)
from sqla_seqreserve.bench.models import PAYMENT_COLUMNS
from sqla_seqreserve.cli._bench_table import bench_table

pytestmark = pytest.mark.benchmark

OBJECTS = 30
CHILDREN = 10


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Place]:
    with open_place(postgres_url) as place:
        yield place


def execute(place: Place, statement: str) -> None:
    with place.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def rows(place: Place, statement: str) -> list[tuple[Any, ...]]:
    with place.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def written(place: Place, work: Work) -> list[tuple[Any, ...]]:
    """All columns of the work's tables in the order of the keys, without the keys."""
    if work.name == "relationship":
        accounts = rows(place, "SELECT number, name FROM bench_account ORDER BY id")
        return accounts + rows(
            place,
            "SELECT a.number, p.number, p.amount FROM bench_posting p "
            "JOIN bench_account a ON a.id = p.account_id ORDER BY p.id",
        )
    if work.name == "chain":
        return rows(
            place,
            "SELECT n.number, n.name, p.number FROM bench_node n "
            "LEFT JOIN bench_node p ON p.id = n.parent_id ORDER BY n.id",
        )
    if work.name == "open-transaction":
        columns = ", ".join(PAYMENT_COLUMNS)
        return [
            row
            for table in work.tables
            for row in rows(place, f"SELECT {columns} FROM {table} ORDER BY id")
        ]
    if work.name == "joined":
        return rows(
            place,
            "SELECT i.kind, i.number, i.name, b.coupon, b.issued_at FROM bench_instrument i "
            "JOIN bench_bond b USING (id) ORDER BY id",
        )
    # Half of the rows that are upserted were stored before the others.
    order = "number" if work.name == "upsert" else "id"
    columns = ", ".join(PAYMENT_COLUMNS)
    return rows(place, f"SELECT {columns} FROM {work.tables[0]} ORDER BY {order}")


def expected(work: Work) -> list[tuple[Any, ...]]:
    """The rows that ``written`` must return, from the values that the ways get."""
    if work.name == "relationship":
        children = [
            (number // CHILDREN, *posting_values(number).values())
            for number in range(OBJECTS * CHILDREN)
        ]
        return [tuple(account_values(number).values()) for number in range(OBJECTS)] + children
    if work.name == "chain":
        return [
            (*node_values(number).values(), number - 1 if number else None)
            for number in range(OBJECTS)
        ]
    if work.name == "open-transaction":
        return [
            tuple(payment_values(number).values())
            for table in range(3)
            for number in range(table, OBJECTS, 3)
        ]
    if work.name == "joined":
        return [("bond", *bond_values(number).values()) for number in range(OBJECTS)]
    return [tuple(payment_values(number).values()) for number in range(OBJECTS)]


WAYS = [
    pytest.param(driver, work, way, id=f"{driver}, {work.name}: {way.name}")
    for driver in DRIVERS
    for work in WORKS
    for way in work.ways
    if driver in way.drivers
]


@pytest.mark.parametrize(("driver", "work", "way"), WAYS)
def test_a_way_writes_the_rows(place: Place, driver: str, work: Work, way: Way) -> None:
    """On each driver each way writes exactly the rows that it was given, numbered in their
    order.
    """
    if not way.installed:
        pytest.skip(f"{way.needs} is not installed")
    place = place.on(driver)
    execute(place, f"TRUNCATE {', '.join(work.tables)}")

    way.run(place, OBJECTS)

    if "large" in work.name:
        # Its process first writes rows of its own, to warm up.
        assert written(place, work)[-OBJECTS:] == expected(work)
    else:
        assert written(place, work) == expected(work)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_a_work_is_measured_in_each_of_its_ways(place: Place, work: Work, driver: str) -> None:
    """A run gives every measure one sample per round from each way, and each way leaves the same
    rows.
    """
    place = place.on(driver)
    work = work.at_most(objects=200, rounds=2).with_ways(
        lambda way: way.installed and driver in way.drivers
    )

    results = run_work(replace(work, repeat=min(work.repeat, 2)), place)
    Console().print(bench_table(results))

    assert [result.measure for result in results] == list(work.measures)
    for result in results:
        assert result.measure.ours in result.samples
        assert {len(samples) for samples in result.samples.values()} == {2}
    ways = {way for result in results for way in result.samples}
    assert ways == {way.name for way in work.ways}
