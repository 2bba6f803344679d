"""``returning="objects"``: the objects that the ORM would load, aligned with the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, ForeignKey, Identity, create_engine, event, func, inspect, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.mutable import MutableComposite, MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    mapped_column,
    reconstructor,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.types import Integer

from sqla_seqreserve import bulk_insert, bulk_upsert


class Base(DeclarativeBase):
    pass


@dataclass
class Point(MutableComposite):
    x: int
    y: int

    def __setattr__(self, key: str, value: object) -> None:
        object.__setattr__(self, key, value)
        self.changed()


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    body: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSONB))
    numbers: Mapped[list[int] | None] = mapped_column(MutableList.as_mutable(ARRAY(Integer)))
    long: Mapped[str | None] = mapped_column(deferred=True)
    place: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))
    twice: Mapped[int] = column_property(code * 2)
    is_deleted: Mapped[bool] = mapped_column(default=False)
    notes: Mapped[list[Note]] = relationship(lazy="joined")

    @reconstructor
    def on_load(self) -> None:
        self.loads = getattr(self, "loads", 0) + 1


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey("document.id"))


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    bark: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}


def documents(codes: Any) -> list[dict[str, Any]]:
    return [{"code": n, "body": {"n": n}, "numbers": [n], "x": n, "y": 0} for n in codes]


async def on(engine: Engine, driver: str, function: Any) -> None:
    """Run a function with a session on a driver."""
    Base.metadata.create_all(engine)
    url = engine.url.set(drivername=f"postgresql+{driver}")
    if driver != "asyncpg":
        made = create_engine(url)
        with Session(made) as session:
            function(session)
        made.dispose()
        return
    twin = create_async_engine(url)
    async with AsyncSession(twin) as session_:
        await session_.run_sync(function)
    await twin.dispose()


def written(session: Session, function: str, codes: Any) -> list[Document]:
    rows = documents(codes)
    if function == "insert":
        return bulk_insert(session, Document, rows, returning="objects")
    return bulk_upsert(session, Document, rows, conflict=["code"], returning="objects").objects


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("function", ["insert", "upsert"])
@pytest.mark.parametrize("count", [3, 300])
async def test_objects_are_as_loaded(
    engine: Engine, driver: str, function: str, count: int
) -> None:
    """Returned objects are like loaded ones: changes within a mutable value are saved, and load
    events were called.
    """

    def scenario(session: Session) -> None:
        made = written(session, function, range(count))
        assert [item.code for item in made] == list(range(count))
        assert {item.loads for item in made} == {1}
        assert not any(inspect(item).modified for item in made)
        for item in made:
            assert (item.body, item.numbers) == ({"n": item.code}, [item.code])
            assert item.body is not None
            assert item.numbers is not None
            item.body["more"] = 1
            item.numbers.append(7)
            item.place.y = 5
            assert item in session.dirty
        assert (made[2].twice, made[2].long, made[2].notes) == (4, None, [])
        session.commit()
        found = session.scalars(select(Document).order_by(Document.code)).unique().all()
        assert found == made
        assert [(item.body, item.numbers, item.place) for item in found] == [
            ({"n": n, "more": 1}, [n, 7], Point(n, 5)) for n in range(count)
        ]

    await on(engine, driver, scenario)


@pytest.mark.parametrize("function", ["insert", "upsert"])
async def test_a_rollback_takes_new_objects(engine: Engine, function: str) -> None:
    """After a rollback returned objects are transient again, like flushed ones."""

    def scenario(session: Session) -> None:
        made = written(session, function, range(3))
        session.rollback()
        assert all(item not in session or function == "upsert" for item in made)
        assert session.scalar(select(func.count()).select_from(Document)) == 0

    await on(engine, "psycopg", scenario)


async def test_an_object_that_the_session_holds_is_the_one(engine: Engine) -> None:
    """If the session has an object with a row's key, whose own row was deleted elsewhere, that
    object is returned.
    """

    def scenario(session: Session) -> None:
        [old] = bulk_insert(session, Document, documents([1]), returning="objects")
        session.execute(Document.__table__.delete())  # type: ignore[attr-defined]  # a Table
        rows = [{**documents([2])[0], "id": old.id}]
        [new] = bulk_insert(session, Document, rows, returning="objects")
        assert new is old
        assert (new.code, new.body) == (2, {"n": 2})

    await on(engine, "psycopg", scenario)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_rows_that_the_application_hides(engine: Engine, driver: str) -> None:
    """Criteria that the application adds to each SELECT exclude no object of an upsert."""

    def hide(state: Any) -> None:
        if state.is_select and not state.is_column_load:
            state.statement = state.statement.options(
                with_loader_criteria(Document, Document.is_deleted.is_(False))
            )

    def scenario(session: Session) -> None:
        written(session, "insert", range(6))
        session.commit()
        session.expunge_all()
        session.execute(
            Document.__table__.update()  # type: ignore[attr-defined]  # a Table
            .where(Document.code % 2 == 1)
            .values(is_deleted=True)
        )
        event.listen(session, "do_orm_execute", hide)
        assert len(session.scalars(select(Document)).unique().all()) == 3
        made = written(session, "upsert", [5, 0, 3, 9, 1])
        assert [item.code for item in made] == [5, 0, 3, 9, 1]
        assert [item.is_deleted for item in made] == [True, False, True, False, True]
        assert made[0].body is not None
        made[0].body["more"] = 1
        session.commit()
        assert made[0].body == {"n": 5, "more": 1}

    await on(engine, driver, scenario)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_rows_of_a_sibling_class(engine: Engine, driver: str) -> None:
    """A row of another class of the same table is returned as an object of that class."""

    def scenario(session: Session) -> None:
        bulk_insert(session, Dog, [{"code": 2, "bark": "wuff"}])
        rows = [{"code": n, "lives": n} for n in (3, 2, 1)]
        done = bulk_upsert(session, Cat, rows, conflict=["code"], returning="objects")
        assert [(type(item), item.code) for item in done.objects] == [(Cat, 3), (Dog, 2), (Cat, 1)]
        assert isinstance(done.objects[1], Dog)
        assert done.objects[1].bark == "wuff"

    await on(engine, driver, scenario)


async def test_rows_that_name_their_class(engine: Engine) -> None:
    """A row that gives the discriminator of a subclass is returned as an object of that
    subclass.
    """

    def scenario(session: Session) -> None:
        rows = [{"code": 1}, {"code": 2, "kind": "cat"}, {"code": 3, "kind": "dog"}]
        made = bulk_insert(session, Animal, rows, returning="objects")
        assert [type(item) for item in made] == [Animal, Cat, Dog]
        assert isinstance(made[1], Cat)
        assert made[1].lives is None
        session.commit()
        assert session.scalars(select(Animal).order_by(Animal.code)).all() == made

    await on(engine, "psycopg", scenario)
