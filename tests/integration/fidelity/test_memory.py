"""Memory for classes, factories, engines and statements is freed with them, or is bounded."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.sides import WAYS, Way
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    TextClause,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.orm import (
    Session,
    registry,
    scoped_session,
    sessionmaker,
)

from sqla_seqreserve import bulk_insert, check_sequences, register, reserve_ids

TABLES = 9
"""A flush writes one or two objects of each table, so that there are 512 shapes of flushes."""


@pytest.fixture(autouse=True)
def nothing_older() -> Iterator[None]:
    """The garbage collector examines only the test's own objects, and not those of the
    whole suite.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def mapped(name: str, mappers: registry, metadata: MetaData) -> type[Any]:
    """A mapped class that nothing else refers to."""
    table = Table(name, metadata, Column("id", Integer, primary_key=True), Column("name", String))
    cls: type[Any] = type(name.title(), (), {})
    mappers.map_imperatively(cls, table)
    return cls


def use(engine: Engine, way: Way, *, registered: bool) -> weakref.ref[Any]:
    """Map a class and save objects of it; return a weak reference, and leave nothing else of the
    class.
    """
    mappers, metadata = registry(), MetaData()
    cls = mapped("fleeting", mappers, metadata)
    metadata.create_all(engine)
    with Session(engine) as session:
        if registered:
            register(session, **way.settings)
        items = [cls() for _ in range(way.rows)]
        for item in items:
            item.name = "n"
        session.add_all(items)
        session.commit()
        if registered and way.as_mappings:
            bulk_insert(session, cls, [{"name": "n"}] * way.rows)
            reserve_ids(session, cls, 3)
            check_sequences(session, [cls])
            session.commit()
    metadata.drop_all(engine)
    mappers.dispose()
    return weakref.ref(cls)


def freed(reference: weakref.ref[Any], engine: Engine) -> bool:
    # SQLAlchemy's own cache of compiled statements is for the application to clear.
    engine.clear_compiled_cache()
    for _ in range(3):
        gc.collect()
    return reference() is None


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_mapped_class_is_freed(engine: Engine, way: Way) -> None:
    """A mapped class without references is freed, as in plain SQLAlchemy, while its
    engine lives.
    """
    assert freed(use(engine, way, registered=False), engine)
    assert freed(use(engine, way, registered=True), engine)


def factory_of(engine: Engine) -> Any:
    return sessionmaker(engine)


def scoped_of(engine: Engine) -> Any:
    return scoped_session(sessionmaker(engine))


def class_of(engine: Engine) -> Any:
    return type("Mine", (Session,), {})


def session_of(engine: Engine) -> Any:
    return Session(engine)


@pytest.mark.parametrize("make", [factory_of, scoped_of, class_of, session_of])
@pytest.mark.parametrize("registered", [False, True], ids=["plain", "ours"])
def test_a_target_and_its_engine_are_freed(
    database_url: str, make: Callable[[Engine], Any], registered: bool
) -> None:
    """A registered factory, class or session without references is freed with its engine."""
    mappers, metadata = registry(), MetaData()
    cls = mapped("lasting", mappers, metadata)

    def using() -> list[weakref.ref[Any]]:
        engine = create_engine(make_url(database_url))
        metadata.create_all(engine)
        target = make(engine)
        if registered:
            register(target, copy_min_rows=1, prefetch=5).on_flush(lambda report: None)
        session = target if isinstance(target, Session) else target(bind=engine)
        session.add_all([cls() for _ in range(9)])
        session.commit()
        session.scalars(select(cls)).all()
        session.close()
        if isinstance(target, scoped_session):
            target.remove()
        engine.dispose()
        # In plain SQLAlchemy too, the dialect stays in the mapper's cache of compiled statements.
        return [weakref.ref(target), weakref.ref(engine)]

    references = using()
    for _ in range(3):
        gc.collect()
    left = [reference() for reference in references if reference() is not None]
    mappers.dispose()
    assert left == []


def test_statements_that_are_kept_have_a_bound(engine: Engine) -> None:
    """The statements that are kept are bounded in number, however many shapes the flushes of an
    application have.
    """
    mappers, metadata = registry(), MetaData()
    classes = [mapped(f"shape{number}", mappers, metadata) for number in range(TABLES)]
    metadata.create_all(engine)

    def refuse(*_: Any) -> None:
        raise LookupError("the keys are reserved, and that is all that is wanted")

    def statements() -> int:
        engine.clear_compiled_cache()
        gc.collect()
        return sum(isinstance(item, TextClause) for item in gc.get_objects())

    for cls in classes:
        event.listen(cls, "before_insert", refuse)
    before = statements()
    with Session(engine) as session:
        register(session, copy_min_rows=2)
        for shape in itertools.product((1, 2), repeat=TABLES):
            for cls, count in zip(classes, shape, strict=True):
                session.add_all([cls() for _ in range(count)])
            with pytest.raises(LookupError):
                session.flush()
            session.rollback()
    kept = statements() - before
    mappers.dispose()
    assert kept < 300, f"{kept} statements are kept after {2**TABLES} shapes of flushes"
