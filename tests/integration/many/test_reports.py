"""The entries of a FlushReport for changed and deleted objects, and for link rows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.change_reports import (
    DRIVERS,
    FEW,
    LINKS,
    MANY,
    Animal,
    Bird,
    Counted,
    Node,
    change,
    everything,
    lines,
    run,
    saved,
)
from fixtures.change_reports import tables as tables
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, event, inspect
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER
from sqla_seqreserve.metrics import LibraryMetrics
from sqla_seqreserve.testing import round_trips


@DRIVERS
def test_many_rows_say_that_they_travelled_together(tables: Engine, driver: str) -> None:
    """The report says that changed and deleted objects, and added and removed links, were written
    as one statement.
    """
    if driver == "psycopg2" and not IN_ORDER:
        pytest.skip("the pages of SQLAlchemy before 2.0.10 are its own")
    _, updated, linked, unlinked, deleted = run(tables.url, driver, everything(MANY))
    assert lines(updated) == {("Node", "update", MANY, "copy", None)}
    assert lines(linked) == {("links", "link", MANY, "copy", None)}
    assert lines(unlinked) == {("links", "unlink", MANY, "copy", None)}
    assert lines(deleted) == {("Node", "delete", MANY, "copy", None)}
    assert linked.entries[0].model is LINKS
    assert updated.entries[0].model is Node


@DRIVERS
def test_an_object_of_several_tables_is_counted_once(tables: Engine, driver: str) -> None:
    """With joined inheritance a report has one entry per class, whichever of its tables an object
    has changes in.
    """

    def act(session: Session) -> None:
        birds, animals = saved(session, Bird, MANY), saved(session, Animal, MANY)
        for number, bird in enumerate(birds):
            if number < 150:
                bird.name = "parent's table"
            if number >= 50:
                bird.wings = 4
        for animal in animals:
            animal.name = "changed"
        session.flush()
        for item in [*birds, *animals]:
            session.delete(item)
        session.flush()

    *_, updated, deleted = run(tables.url, driver, act)
    assert lines(updated) == {
        ("Bird", "update", MANY, "copy", None),
        ("Animal", "update", MANY, "copy", None),
    }
    assert lines(deleted) == {
        ("Bird", "delete", MANY, "copy", None),
        ("Animal", "delete", MANY, "copy", None),
    }


@DRIVERS
def test_one_flush_reports_all_kinds(tables: Engine, driver: str) -> None:
    """New, changed and deleted objects and link rows of one flush are entries of one report."""

    def act(session: Session) -> None:
        nodes = saved(session, Node, MANY)
        gone = saved(session, Counted, MANY)
        with session.no_autoflush:
            for node in nodes:
                node.number += 1
            nodes[0].others.append(nodes[1])
            for counted in gone:
                session.delete(counted)
        session.add_all(Bird() for _ in range(2))
        session.flush()

    report = run(tables.url, driver, act, copy_min_rows=2)[-1]
    assert {(line[0], line[1], line[2]) for line in lines(report)} == {
        ("Bird", "insert", 2),
        ("Node", "update", MANY),
        ("Counted", "delete", MANY),
        ("links", "link", 1),
    }
    assert report.rows == 2 + 2 * MANY + 1


@DRIVERS
def test_versions_compared_together(tables: Engine, driver: str) -> None:
    """Changed objects with a version counter are one entry, though SQLAlchemy sends
    each by itself.
    """
    report = run(tables.url, driver, lambda session: change(session, Counted), copy_min_rows=1)[-1]
    assert lines(report) == {("Counted", "update", 20, "copy", None)}


def test_a_flush_that_writes_nothing_is_not_reported(tables: Engine) -> None:
    """A flush of an object that was set to its old values sends no UPDATE, and is not reported."""

    def act(session: Session) -> None:
        [node] = saved(session, Node, 1)
        node.number = node.number + 0
        session.flush()
        node.name = "a"
        node.name = None
        session.flush()

    assert len(run(tables.url, "psycopg", act)) == 1


def test_a_statement_of_the_applications_own_is_not_the_flushs(tables: Engine) -> None:
    """A statement that a listener executes within the flush is no entry of its report."""

    @event.listens_for(Node, "before_update")
    def note(_mapper: Any, connection: Any, _node: Any) -> None:
        connection.execute(Counted.__table__.delete())
        connection.execute(Node.__table__.update().values(name="x"))

    try:
        report = run(tables.url, "psycopg", lambda session: change(session, Node))[-1]
    finally:
        event.remove(Node, "before_update", note)
    assert {line[:3] for line in lines(report)} == {("Node", "update", 20)}


def test_an_object_that_changes_its_key(tables: Engine) -> None:
    """An object that changes its key is counted once, under its class."""

    def act(session: Session) -> None:
        [animal], [bird] = saved(session, Animal, 1), saved(session, Bird, 1)
        animal.id += 1_000
        bird.name = "b"
        session.flush()

    report = run(tables.url, "psycopg", act)[-1]
    assert {line[:3] for line in lines(report)} == {("Bird", "update", 1), ("Animal", "update", 1)}


def test_it_prints_as_a_table(tables: Engine) -> None:
    """A report prints one line per entry, with aligned numbers and their sums."""
    _, updated, *_ = run(tables.url, "psycopg", everything(MANY))
    head, line, total = str(updated).splitlines()
    assert head == "class  kind    rows  reserved  writer  seconds  reason"
    assert line.startswith("Node   update   400         0  copy    ")
    assert total.startswith("total           400         0          ")
    assert total.endswith("1 round trip")


@DRIVERS
@pytest.mark.parametrize("count", [FEW, MANY])
def test_round_trips_are_those_on_the_wire(
    tables: Engine, driver: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third flush of an engine on, a report's ``messages`` are the round trips on the
    wire, with the BEGIN if it travels by itself.
    """
    # Whatever the distance is found to be meanwhile.
    monkeypatch.setattr("sqla_seqreserve._drivers.psycopg2._Psycopg2.gathers_from", 0.0)
    with round_trips(tables.url.render_as_string(hide_password=False)) as wire:
        counted: list[tuple[int, int]] = []

        def flush(session: Session, reports: list[FlushReport], time: int) -> None:
            # Those before are not counted, which takes 20 ms a message.
            with contextlib.nullcontext() if time < 3 else wire.counting() as found:
                session.flush()
            if found is not None:
                counted.append((reports[-1].messages, found.round_trips))

        def act(session: Session) -> None:
            reports: list[FlushReport] = []
            register(session).on_flush(reports.append)
            for time in (1, 2, 3):
                nodes = [Node() for _ in range(count)]
                session.add_all(nodes)
                flush(session, reports, time)
                for node in nodes:
                    node.number += 1
                flush(session, reports, time)
                for node in nodes:
                    node.others = [nodes[0]]
                flush(session, reports, time)
                for node in nodes:
                    node.others = []
                flush(session, reports, time)
                for node in nodes:
                    session.delete(node)
                flush(session, reports, time)
                session.rollback()

        run(wire.url, driver, act)
    assert len(counted) == 5
    assert [told for told, _ in counted] == [sent for _, sent in counted]


@pytest.fixture
def metrics() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    measured = LibraryMetrics(registry)
    yield registry
    measured.close()


def test_metrics_and_log_have_the_kind(
    tables: Engine, metrics: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics have a label, and log records a field, ``kind``; link rows are named by
    their table.
    """
    caplog.set_level(logging.DEBUG, "sqla_seqreserve")
    run(tables.url, "psycopg", everything(MANY))
    expected = [
        ("Node", "insert"), ("Node", "update"), ("links", "link"), ("links", "unlink"),
        ("Node", "delete"),
    ]  # fmt: skip
    for model, kind in expected:
        labels = {"model": model, "kind": kind, "writer": "copy"}
        assert metrics.get_sample_value("seqreserve_rows_total", labels) == MANY
    records: list[Any] = [r for r in caplog.records if getattr(r, "event", "") == "rows_written"]
    assert [(record.model, record.kind) for record in records] == expected
    assert [record.getMessage() for record in records] == [
        "copy wrote 400 rows of node",
        "copy updated 400 rows of node",
        "copy added 400 rows of links",
        "copy removed 400 rows of links",
        "copy deleted 400 rows of node",
    ]


def test_when_nobody_asks_nothing_is_listened_to(
    tables: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush without an observer adds no listener, whatever it writes."""
    from sqla_seqreserve._flush import change_counts

    made: list[Any] = []
    plain = change_counts._Changes

    def counting(*arguments: Any) -> Any:
        made.append(arguments)
        return plain(*arguments)

    monkeypatch.setattr(change_counts, "_Changes", counting)
    with Session(tables) as session:
        registration = register(session)
        everything(FEW)(session)
        assert made == []
        registration.on_flush(lambda report: None)
        everything(FEW)(session)
        assert len(made) == 5
        assert inspect(Node).class_ is Node
