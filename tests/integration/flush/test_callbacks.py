"""Callbacks of ``on_flush``: when they are called, in which order, and until when."""

from __future__ import annotations

import pytest
from fixtures.shop import Tag
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, register


def test_callbacks_can_be_removed(shop: Engine) -> None:
    """on_flush() returns a function that removes the callback and may be called twice; other
    callbacks stay.
    """
    with Session(shop) as session:
        registration = register(session)
        first: list[FlushReport] = []
        second: list[FlushReport] = []
        remove = registration.on_flush(first.append)
        registration.on_flush(second.append)
        session.add(Tag(word="a"))
        session.flush()
        remove()
        remove()
        session.add(Tag(word="b"))
        session.flush()
        assert (len(first), len(second)) == (1, 2)


def test_the_same_callback_may_stand_twice(shop: Engine) -> None:
    """A callback that was added twice is called twice, and removing one of the two leaves the
    other.
    """
    with Session(shop) as session:
        registration, reports = register(session), list[FlushReport]()
        remove = registration.on_flush(reports.append)
        registration.on_flush(reports.append)
        remove()
        remove()
        session.add(Tag(word="a"))
        session.flush()
        assert len(reports) == 1


def test_a_callback_sees_persistent_objects(shop: Engine) -> None:
    """A callback runs within flush(), when the objects have their rows; if it raises an error, the
    flush fails.
    """
    with Session(shop) as session:
        registration = register(session, copy_min_rows=1)
        tag = Tag(word="a")
        seen = []
        remove = registration.on_flush(lambda _: seen.append(inspect(tag).persistent))
        session.add(tag)
        session.flush()
        assert seen == [True]
        remove()

        def refuse(report: FlushReport) -> None:
            raise ZeroDivisionError

        registration.on_flush(refuse)
        session.add(Tag(word="b"))
        with pytest.raises(ZeroDivisionError):
            session.flush()
        session.rollback()
        assert session.scalars(select(Tag)).all() == []


def test_the_same_callback_may_be_added_twice(shop: Engine) -> None:
    """Each on_flush() returns its own removal, and callbacks are called in the order in which they
    were added.
    """
    called: list[str] = []

    def first(_: FlushReport) -> None:
        called.append("first")

    with Session(shop) as session:
        registration = register(session)
        remove = registration.on_flush(first)
        registration.on_flush(lambda _: called.append("second"))
        registration.on_flush(first)
        session.add(Tag(word="a"))
        session.flush()
        assert called == ["first", "second", "first"]
        called.clear()
        remove()
        remove()
        session.add(Tag(word="b"))
        session.flush()
        assert called == ["second", "first"]
