"""Listeners that can see, change, replace or refuse a statement, compared with plain SQLAlchemy:
they have the same effect in each way of writing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from fixtures.listeners import (
    EACH_DRIVER,
    LISTENERS,
    Base,
    Node,
    Secret,
    comment,
    execute,
    mask,
    mask_parameters,
    refuse,
    target_of,
)
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import Connection, Engine, Insert, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sqla_seqreserve import assign_ids, register, reserve_ids
from sqla_seqreserve.testing import record_statements

FEW = Way("few rows", rows=3)
MANY = Way("many rows", rows=300)
COPY = Way("copy", {"copy_min_rows": 1})
KEYS_FIRST = Way("keys first", {"reserve": "always"}, rows=3)
BULK = Way("bulk_insert", as_mappings=True, rows=300)
WAYS = (
    FEW,
    MANY,
    COPY,
    Way("copy of one row", {"copy_min_rows": 1}, rows=1),
    KEYS_FIRST,
    Way("keys kept", {"prefetch": 5, "reserve": "always"}, rows=3),
    BULK,
    Way("bulk_insert of few", rows=3, as_mappings=True),
    Way("bulk_upsert", rows=300, as_mappings=True, upserts=True),
    Way("bulk_upsert of few", rows=3, as_mappings=True, upserts=True),
)


def save(side: Side) -> Any:
    """Write rows in the side's way; return the result or the error, and the stored rows."""

    def write(session: Session) -> Any:
        rows = [{"number": n, "word": "hush"} for n in range(side.way.rows)]
        if side.way.upserts:
            rows = [{"id": row["number"] + 1, **row} for row in rows]
        keys = side.write(session, Secret, rows)
        session.commit()
        return keys

    try:
        said = side.run(write)
    except (DBAPIError, RuntimeError) as error:
        said = refusal(error)
    return said, side.rows("SELECT id, number, word, state FROM secret ORDER BY id")


@EACH_DRIVER
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_whoever_changes_or_refuses_a_statement_is_heeded(
    twin_urls: tuple[str, str], way: Way, listener: Callable[[Any], None], driver: str
) -> None:
    """If a listener of the engine changes or refuses an INSERT, what is stored is what the listener
    made of it, in each way and on each driver.
    """

    def trial(side: Side) -> Any:
        listener(target_of(side))
        return save(side)

    said, stored = both(twin_urls, Base, trial, way=way, driver=driver)
    if listener is refuse:
        assert (said[0], stored) == ("RuntimeError", [])
    else:
        word = "hush" if listener is comment else "*"
        assert [row[2] for row in stored] == [word] * way.rows
        # No id was taken for nothing.
        assert said == list(range(1, way.rows + 1))


@EACH_DRIVER
@pytest.mark.parametrize("listener", [mask, mask_parameters, execute])
def test_a_tree_is_written_in_an_order_that_its_keys_allow(
    twin_urls: tuple[str, str], listener: Callable[[Any], None], driver: str
) -> None:
    """With a listener too, a child that was added before its parent is inserted after it."""

    def trial(side: Side) -> Any:
        listener(target_of(side))

        def write(session: Session) -> None:
            root = Node(name="hush")
            leaves = [Node(name=f"leaf {n}") for n in range(30)]
            session.add_all(leaves)
            session.add(root)
            root.children = leaves
            session.commit()

        side.run(write)
        return side.rows("SELECT count(*), count(parent_id), count(DISTINCT parent_id) FROM node")

    assert both(twin_urls, Base, trial, way=COPY, driver=driver) == [(31, 30, 1)]


@EACH_DRIVER
def test_children_of_a_message_are_not_commented_out(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """A comment that a listener adds behind a statement does not comment out the next statement of
    a message.
    """

    def trial(side: Side) -> Any:
        comment(target_of(side))

        def write(session: Session) -> None:
            session.add(Node(name="root", children=[Node(name=f"{n}") for n in range(3)]))
            session.add_all([Secret(number=n, word="a") for n in range(3)])
            session.commit()

        side.run(write)
        return side.rows("SELECT (SELECT count(*) FROM node), (SELECT count(*) FROM secret)")

    for way in (FEW, KEYS_FIRST):
        assert both(twin_urls, Base, trial, way=way, driver=driver) == [(4, 3)]


@EACH_DRIVER
@pytest.mark.parametrize("way", [FEW, MANY, COPY, BULK], ids=str)
def test_who_listens_to_after_execute_sees_every_row(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """The INSERTs that after_execute gets contain all rows that were written."""

    def trial(side: Side) -> Any:
        seen: list[int] = []

        @event.listens_for(target_of(side), "after_execute")
        def sees(_c: Any, clause: Any, many: Any, _one: Any, _options: Any, _result: Any) -> None:
            if isinstance(clause, Insert):
                seen.append(len(many) or 1)

        return save(side), sum(seen)

    _, rows = both(twin_urls, Base, trial, way=way, driver=driver)
    assert rows == way.rows


@EACH_DRIVER
@pytest.mark.parametrize("listener", LISTENERS)
def test_ids_are_reserved_whoever_listens(
    twin_urls: tuple[str, str], listener: Callable[[Any], None], driver: str
) -> None:
    """reserve_ids() and assign_ids() return ids, even if a listener executes statements itself."""

    def trial(side: Side) -> Any:
        if not side.registered:
            return None
        listener(target_of(side))

        def work(session: Session) -> None:
            assert list(reserve_ids(session, Secret, 3)) == [1, 2, 3]
            both = reserve_ids(session, {Secret: 2, Node: 2})
            assert [list(ids) for ids in both.values()] == [[4, 5], [1, 2]]
            items = [Node(name="a"), Node(name="b")]
            assign_ids(session, items)
            assert [item.id for item in items] == [3, 4]
            session.add_all(items)
            session.commit()

        return side.run(work)

    both(twin_urls, Base, trial, driver=driver)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *product(
            ("before_execute", "before_cursor_execute"),
            ("engine", "Engine", "Connection", "connection", "options"),
        ),
        *product(["do_execute"], ("engine", "Engine", "options")),
    ],
)
def test_a_listener_counts_wherever_it_is_registered_and_while_it_is(
    engine: Engine, target: str, name: str
) -> None:
    """A listener on an engine, on an engine with options, on a connection or on a class of them is
    noticed as long as it is registered.
    """
    Base.metadata.create_all(engine)
    told: list[str] = []
    options = {"retval": True} if name == "before_cursor_execute" else {}

    def listener(*given: Any) -> Any:
        return given[2:4] if options else None

    with engine.connect() as first, Session(engine if target == "Engine" else first) as session:
        bind: Any = {
            "engine": engine,
            "Engine": Engine,
            "Connection": Connection,
            "connection": first,
            "options": engine.execution_options(of="the shop"),
        }[target]
        if target == "options":
            session.bind = bind
        register(session, copy_min_rows=1).on_flush(
            lambda report: told.append(report.entries[0].writer)
        )
        for number in range(3):
            if number == 1:
                event.listen(bind, name, listener, **options)
            try:
                session.add_all([Node(name=f"{n}") for n in range(9)])
                session.commit()
            finally:
                if number == 1:
                    event.remove(bind, name, listener)
    assert told == ["copy", "orm", "copy"]


def test_explain_and_report_name_who_stands_in_the_way(engine: Engine) -> None:
    """explain() and the reports of few and of many rows name the same listener as the reason."""
    Base.metadata.create_all(engine)
    mask(engine)
    told = []
    with Session(engine) as session:
        registration = register(session)
        registration.on_flush(lambda report: told.extend(report.entries))
        for rows in (1, 3, 3000):
            session.add_all([Node(name=f"{n}") for n in range(rows)])
            session.commit()
    [explained] = registration.explain(engine, [Node])
    assert (explained.path, explained.copy_from) == ("orm", None)
    assert explained.remedy is not None
    assert {(entry.writer, entry.reason) for entry in told} == {("orm", explained.reason)}


def test_who_only_listens_leaves_copy_as_it_is(engine: Engine) -> None:
    """A before_cursor_execute listener that returns nothing does not prevent COPY."""
    Base.metadata.create_all(engine)
    seen: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: seen.append(sql.split()[0])
    )
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        session.add_all([Node(name=f"{n}") for n in range(9)])
        session.flush()
    assert seen[-1] == "COPY"


def test_an_observer_that_adds_comments_leaves_copy_as_it_is(engine: Engine) -> None:
    """OpenTelemetry's listener, though registered as one that may change statements, does not
    prevent COPY.
    """
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.sqlalchemy")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    Base.metadata.create_all(engine)
    instrumentor = instrumentation.SQLAlchemyInstrumentor()
    # It refuses versions of SQLAlchemy with which it was not tested.
    instrumentor.instrument(
        engine=engine,
        enable_commenter=True,
        skip_dep_check=True,
        tracer_provider=sdk.TracerProvider(),
    )
    told = []
    try:
        with record_statements(engine) as statements, Session(engine) as session:
            register(session, copy_min_rows=1).on_flush(
                lambda report: told.append(report.entries[0].writer)
            )
            session.add_all([Node(name=f"{n}") for n in range(9)])
            session.commit()
    finally:
        instrumentor.uninstrument()
    assert told == ["copy"]
    assert statements[-1].sql.startswith("COPY node")
    assert statements[-1].sql.endswith("*/")
