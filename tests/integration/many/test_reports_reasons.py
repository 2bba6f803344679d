"""The reasons in a FlushReport why changes, deletions and link rows were not written together."""

from __future__ import annotations

from functools import partial

import pytest
from fixtures.change_reports import (
    DRIVERS,
    FEW,
    Node,
    Stamped,
    change,
    everything,
    lines,
    run,
    saved,
)
from fixtures.change_reports import tables as tables
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

ASKED = "few rows: fewer than copy_min_rows"


@DRIVERS
@pytest.mark.parametrize("count", [1, FEW])
def test_few_rows_say_so(tables: Engine, driver: str, count: int) -> None:
    """Few changed rows are no fallback: the writer is "insert", as for few new objects."""
    asked = run(tables.url, driver, everything(count), copy_min_rows=10)[1:]
    kinds = ["update", "link", "unlink", "delete"]
    for report, kind in zip(asked, kinds, strict=True):
        name = "links" if kind.endswith("link") else "Node"
        assert lines(report) == {(name, kind, count, "insert", ASKED)}


@DRIVERS
def test_one_row_is_not_fewer_than_one(tables: Engine, driver: str) -> None:
    """With ``copy_min_rows=1``, one changed row is not said to be fewer than that."""
    asked = run(tables.url, driver, everything(1), copy_min_rows=1)[1:]
    for report in asked:
        assert all(entry.reason != ASKED for entry in report.entries)


@DRIVERS
def test_a_reason_why_rows_go_one_by_one(tables: Engine, driver: str) -> None:
    """If SQLAlchemy sends one statement per row, the report says why, and counts it as
    a fallback.
    """
    act = partial(change, model=Stamped, rows=101)
    report = run(tables.url, driver, act, copy_min_rows=1)[-1]
    reason = "values of the database come back with each row"
    assert lines(report) == {("Stamped", "update", 101, "orm", reason)}

    def expressions(session: Session) -> None:
        for node in saved(session, Node, 20):
            node.number = Node.number + 1
        session.flush()

    report = run(tables.url, driver, expressions, copy_min_rows=1)[-1]
    assert lines(report) == {("Node", "update", 20, "orm", "an SQL expression is set")}

    def mixed(session: Session) -> None:
        for number, node in enumerate(saved(session, Node, 20)):
            if number % 2:
                node.name = "changed"
            else:
                node.number += 1
        session.flush()

    report = run(tables.url, driver, mixed, copy_min_rows=1)[-1]
    assert lines(report) == {("Node", "update", 20, "insert", "few rows of their kind")}


def test_values_come_back_in_a_message(tables: Engine) -> None:
    """Up to 100 objects whose values come back take one round trip on psycopg."""
    report = run(tables.url, "psycopg", partial(change, model=Stamped, rows=100))[-1]
    assert lines(report) == {("Stamped", "update", 100, "insert", "few rows of their kind")}
    assert report.messages == 1


@DRIVERS
def test_a_reason_of_the_table(tables: Engine, driver: str) -> None:
    """The report contains the reason that write_many() gives for a table, with the same text."""
    with tables.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN RETURN NULL; END'"
            )
        )
        connection.execute(text("CREATE TRIGGER t AFTER UPDATE ON node EXECUTE FUNCTION nothing()"))
    report = run(tables.url, driver, lambda session: change(session, Node), copy_min_rows=1)[-1]
    [(*_, writer, reason)] = lines(report)
    assert writer == "orm"
    assert reason is not None
    assert reason.endswith("node has a rule or a trigger on UPDATE")


@DRIVERS
@pytest.mark.parametrize("mode", ["reserve", "off"])
def test_the_mode_is_a_reason(tables: Engine, driver: str, mode: str) -> None:
    """A registration whose mode writes nothing itself still reports, with the mode as
    the reason.
    """
    reports = run(tables.url, driver, everything(FEW), mode=mode)[1:]
    assert [(line[1], line[2:]) for report in reports for line in lines(report)] == [
        (kind, (FEW, "orm", f"mode is {mode}")) for kind in ("update", "link", "unlink", "delete")
    ]
