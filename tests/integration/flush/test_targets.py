"""register() on every kind of target: once, again, several at a time, and off again."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.shop import Base, Customer, Order, Tag
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_seqreserve import FlushReport, Registration, register
from sqla_seqreserve.errors import ConfigurationError


def own_class() -> tuple[Any, Callable[[Engine], Session]]:
    cls = type("OwnSession", (Session,), {})
    return cls, cls


def session_class() -> tuple[Any, Callable[[Engine], Session]]:
    return Session, Session


def parent_class() -> tuple[Any, Callable[[Engine], Session]]:
    cls = type("ParentSession", (Session,), {})
    return cls, type("ChildSession", (cls,), {})


def factory() -> tuple[Any, Callable[[Engine], Session]]:
    maker = sessionmaker()
    return maker, lambda engine: maker(bind=engine)


def scoped() -> tuple[Any, Callable[[Engine], Session]]:
    return of_registry(scoped_session(sessionmaker()))


def scoped_class() -> tuple[Any, Callable[[Engine], Session]]:
    return of_registry(scoped_session(type("OwnSession", (Session,), {})))


def of_registry(registry: scoped_session[Any]) -> tuple[Any, Callable[[Engine], Session]]:
    def fresh(engine: Engine) -> Session:
        registry.remove()
        return registry(bind=engine)

    return registry, fresh


def instance() -> tuple[Any, Callable[[Engine], Session]]:
    session = Session()

    def bound(engine: Engine) -> Session:
        session.bind = engine
        return session

    return session, bound


EVERY_TARGET = pytest.mark.parametrize(
    "kind", [instance, own_class, session_class, parent_class, factory, scoped, scoped_class]
)


def flush_once(make: Callable[[Engine], Session], engine: Engine) -> None:
    session = make(engine)
    session.add_all([Tag(word="word") for _ in range(10)])
    session.flush()
    session.rollback()
    session.close()


@EVERY_TARGET
def test_every_target_is_covered(shop: Engine, kind: Callable[[], Any]) -> None:
    """Each flush of a session of the target reports once, however often it was registered, and not
    at all once the target is unregistered.
    """
    target, make = kind()
    reports: list[FlushReport] = []
    registration = register(target, copy_min_rows=10)
    try:
        registration.on_flush(reports.append)
        flush_once(make, shop)
        assert [entry.writer for report in reports for entry in report.entries] == ["copy"]
        assert register(target) is registration
        assert register(target, mode="reserve", copy_min_rows=1) is registration
        flush_once(make, shop)
        assert [entry.writer for report in reports for entry in report.entries] == ["copy", "orm"]
    finally:
        registration.unregister()
    flush_once(make, shop)
    assert len(reports) == 2
    registration.unregister()
    again = register(target)
    try:
        assert again is not registration
        again.on_flush(reports.append)
        flush_once(make, shop)
        assert len(reports) == 3
    finally:
        again.unregister()


@EVERY_TARGET
def test_other_sessions_are_not_concerned(shop: Engine, kind: Callable[[], Any]) -> None:
    """A session that is not of the target is left alone, unless the target is Session itself."""
    target, _ = kind()
    reports: list[FlushReport] = []
    registration = register(target)
    try:
        registration.on_flush(reports.append)
        flush_once(type("UnrelatedSession", (Session,), {}), shop)
        assert len(reports) == (1 if target is Session else 0)
    finally:
        registration.unregister()


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))][::5])
def test_the_most_specific_decides(shop: Engine, order: tuple[int, ...]) -> None:
    """Of instance, factory, class and parent class the first one registered decides, and reports
    alone, in whatever order they were registered; with each one off, the next one decides.
    """
    parent = type("ParentSession", (Session,), {})
    child = type("ChildSession", (parent,), {})
    maker = sessionmaker(shop, class_=child)
    session = maker()
    targets = [session, maker, child, parent]
    fired: list[int] = []
    registrations: dict[int, Registration] = {}
    for position in order:
        registrations[position] = register(targets[position])
        registrations[position].on_flush(lambda _, position=position: fired.append(position))
    for position in range(4):
        session.add_all([Tag(word="word") for _ in range(10)])
        session.flush()
        registrations[position].unregister()
    assert fired == [0, 1, 2, 3]
    session.close()


def test_a_registered_session_can_be_collected() -> None:
    """A registered session can be garbage-collected."""
    session = Session()
    register(session)
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None


def test_a_registered_session_stays_registered() -> None:
    """A registration lives as long as its target, even if nothing else refers to it."""
    session = Session()
    reference = weakref.ref(register(session, mode="reserve"))
    gc.collect()
    registration = reference()
    assert registration is not None
    assert register(session) is registration


@pytest.mark.parametrize("target", [None, 1, "session", Base, Order, object(), lambda: Session()])
def test_other_targets_are_refused(target: object) -> None:
    """register() refuses a target that is no session, session class or factory, and says what was
    expected.
    """
    with pytest.raises(ConfigurationError, match="expected a Session or AsyncSession"):
        register(target)


@pytest.mark.parametrize("copy_min_rows", [0, -1, True, 1.5, "8"])
def test_copy_min_rows_is_checked(copy_min_rows: Any) -> None:
    """copy_min_rows must be an int of one or more."""
    with pytest.raises(ConfigurationError, match="copy_min_rows must be an int of 1 or more"):
        register(Session(), copy_min_rows=copy_min_rows)


@pytest.mark.parametrize("mode", ["BULK", "on", "", None, True])
def test_mode_is_checked(mode: Any) -> None:
    """register() and an assignment refuse an unknown mode, and name the modes that exist."""
    session = Session()
    with pytest.raises(ConfigurationError, match="'bulk', 'reserve', 'off'"):
        register(session, mode=mode)
    registration = register(session)
    with pytest.raises(ConfigurationError, match="'bulk', 'reserve', 'off'"):
        registration.mode = mode
    assert registration.mode == "bulk"


def test_classes_are_checked() -> None:
    """Only classes can be enrolled."""
    with pytest.raises(ConfigurationError, match="mapped classes or declarative bases"):
        register(Session(), classes=["Customer"])  # type: ignore[list-item]  # what the test is about
    with pytest.raises(ConfigurationError, match="mapped classes or declarative bases"):
        register(Session(), classes=[Customer()])  # type: ignore[list-item]  # what the test is about


def test_a_refused_setting_changes_nothing() -> None:
    """Registering again with a bad setting leaves the registration as it was."""
    session = Session()
    registration = register(session, mode="reserve", copy_min_rows=5)
    for bad in ({"mode": "x"}, {"copy_min_rows": 0}, {"classes": [1]}):
        with pytest.raises(ConfigurationError):
            register(session, **{"mode": "off", "copy_min_rows": 9, **bad})  # type: ignore[arg-type]  # what the test is about
    assert (registration.mode, registration._settings.copy_min_rows) == ("reserve", 5)


def test_a_refused_target_is_not_remembered(shop: Engine) -> None:
    """A bad setting at the first registration leaves the target unregistered."""
    session = Session(shop)
    with pytest.raises(ConfigurationError):
        register(session, copy_min_rows=0)
    reports: list[FlushReport] = []
    register(session).on_flush(reports.append)
    session.add(Tag(word="word"))
    session.flush()
    assert len(reports) == 1
    session.close()
