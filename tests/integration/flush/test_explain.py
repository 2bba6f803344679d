"""Registration.explain(): how each class is written, from which sequence, and why not faster."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from fixtures.shop import Base, Customer, Order, Tag
from sqlalchemy import Engine, FetchedValue, String, create_engine, event, func, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.declarative import AbstractConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import Explanation, FlushReport, aio, register
from sqla_seqreserve.errors import UnmappedClassError


class OtherBase(DeclarativeBase):
    pass


class Country(OtherBase):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(2), primary_key=True)


class Nowhere(OtherBase):
    __tablename__ = "nowhere"
    id: Mapped[int] = mapped_column(primary_key=True)


class OneByOne(OtherBase):
    __tablename__ = "tag"
    __mapper_args__ = {"batch": False}  # declarative's own name
    id: Mapped[int] = mapped_column(primary_key=True)


TAG = "public.tag_id_seq"


def explained(shop: Engine, model: type[Any], **settings: Any) -> Explanation:
    [explanation] = register(Session(), **settings).explain(shop, [model])
    return explanation


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (Tag, {}, ("copy", TAG, None)),
        (Tag, {"mode": "reserve"}, ("orm", TAG, "mode is reserve")),
        (Tag, {"mode": "off"}, ("orm", None, "mode is off")),
        (Tag, {"classes": [Order]}, ("orm", None, "the class is not enrolled")),
        (OneByOne, {}, ("orm", TAG, "the mapper has batch=False")),
        (Nowhere, {}, ("orm", None, "the database has no such table")),
    ],
)
def test_each_class_says_path_sequence_and_reason(
    shop: Engine, model: type[Any], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """explain() gives each class a path and a sequence, and a reason if it is not written
    by COPY.
    """
    found = explained(shop, model, **settings)
    assert (found.path, found.sequence, found.reason) == expected
    assert found.model is model


@pytest.mark.parametrize(
    ("hindrances", "expected"),
    [
        ({"two-phase", "listener"}, "the session is two-phase"),
        ({"two-phase", "reserve"}, "the session is two-phase"),
        ({"two-phase", "not enrolled"}, "the session is two-phase"),
        ({"reserve", "listener"}, "mode is reserve"),
        ({"reserve", "not enrolled"}, "mode is reserve"),
        ({"reserve", "rule"}, "mode is reserve"),
        ({"listener", "not enrolled"}, "a listener to before_execute may see, change or refuse"),
        ({"listener", "rule"}, "a listener to before_execute may see, change or refuse"),
        ({"not enrolled", "rule"}, "the class is not enrolled"),
    ],
)
def test_it_names_the_reason_that_a_flush_reports(
    shop: Engine, hindrances: set[str], expected: str
) -> None:
    """If several things prevent COPY, explain() and the flush name the same one."""
    if "listener" in hindrances:
        event.listen(shop, "before_execute", lambda *_: None)
    factory = sessionmaker(shop, twophase="two-phase" in hindrances)
    registration = register(
        factory,
        mode="reserve" if "reserve" in hindrances else "bulk",
        classes=[Order] if "not enrolled" in hindrances else None,
        copy_min_rows=1,
    )
    reports: list[FlushReport] = []
    registration.on_flush(reports.append)
    with factory() as session:
        if "rule" in hindrances:
            session.execute(text("CREATE RULE watched AS ON INSERT TO tag DO ALSO NOTHING"))
        [explanation] = registration.explain(session.connection(), [Tag])
        session.add_all(Tag(word=str(number)) for number in range(3))
        session.flush()
    [entry] = reports[0].entries
    assert entry.reason == explanation.reason
    assert (explanation.path, entry.writer) == ("orm", "orm")
    assert (explanation.reason or "").startswith(expected)


def test_a_natural_key_is_copied_without_ids(shop: Engine) -> None:
    """A class whose keys nothing numbers still goes by COPY, and explain() says that no id is
    reserved.
    """
    with shop.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE country (code varchar(2) PRIMARY KEY)"))
        [found] = register(Session()).explain(connection, [Country])
        assert (found.path, found.sequence) == ("copy", None)
        assert found.reason is not None
        assert found.reason.startswith("no id is reserved: no key column is generated")
        with Session(connection) as session:
            reports: list[FlushReport] = []
            register(session, copy_min_rows=1).on_flush(reports.append)
            session.add_all([Country(code="GB"), Country(code="IE")])
            session.flush()
            [entry] = reports[0].entries
            assert (entry.writer, entry.rows, entry.reserved) == ("copy", 2, 0)


def test_without_classes_every_enrolled_one_is_explained(shop: Engine) -> None:
    """Without classes explain() lists those of the enrolled base, or all mapped ones, ordered by
    name.
    """
    found = register(Session(), classes=[Base]).explain(shop)
    assert [item.model for item in found] == [Customer, Order, Tag]
    every = [item.model for item in register(Session()).explain(shop)]
    assert {Customer, Order, Tag, Country, Nowhere} <= set(every)


def test_it_is_a_sequence_and_a_table(shop: Engine) -> None:
    """The result of explain() prints as an aligned table: one line per class, with reason and
    remedy below.
    """
    found = register(Session(), copy_min_rows=500).explain(shop, [Tag, Nowhere])
    assert (len(found), found[0].model, [item.model for item in found[1:]]) == (2, Tag, [Nowhere])
    *lines, empty, commit = str(found).splitlines()
    assert (empty, commit.partition(":")[0]) == ("", "COMMIT")
    assert lines == [
        "class    path  copy from  many from  sequence",
        "Tag      copy        500        500  public.tag_id_seq",
        "Nowhere  orm           -          -  -",
        "    why: the database has no such table",
        "    remedy: create it, or have search_path lead to it",
    ]


class AClassWithAnExtraordinarilyLongNameForItsTable(OtherBase):
    __tablename__ = "a_table_with_an_extraordinarily_long_name"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str | None] = mapped_column(default=func.upper("default"))


def test_no_word_is_cut_at_80_columns(engine: Engine) -> None:
    """No line that explain() prints is longer than 80 columns, and each name, reason and remedy is
    whole.
    """
    OtherBase.metadata.create_all(engine)
    model = AClassWithAnExtraordinarilyLongNameForItsTable
    printed = register(Session()).explain(engine, [model, Nowhere])
    assert max(map(len, str(printed).splitlines())) <= 80
    words = " ".join(str(printed).split())
    for item in printed:
        for part in (item.model.__name__, item.sequence, item.reason, item.remedy):
            assert part is None or part in words


def test_an_unmapped_class_is_refused(shop: Engine) -> None:
    """explain() refuses a class that is not mapped."""
    with pytest.raises(UnmappedClassError, match="int is not a mapped class"):
        register(Session()).explain(shop, [int])


class Made(OtherBase):
    """A class whose model makes its keys."""

    __tablename__ = "made"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)


class Versioned(OtherBase):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(server_default=FetchedValue())
    __mapper_args__: ClassVar[Any] = {"version_id_col": revision, "version_id_generator": False}


class Stamped(OtherBase):
    __tablename__ = "stamped"
    __mapper_args__: ClassVar[Any] = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime | None] = mapped_column(onupdate=func.now())


def test_a_key_that_the_model_makes_has_no_why(engine: Engine) -> None:
    """If the model makes the keys, explain() gives no reason why no id is reserved, because none is
    needed.
    """
    OtherBase.metadata.create_all(engine)
    found = explained(engine, Made)
    assert (found.path, found.sequence, found.reason, found.remedy) == ("copy", None, None, None)
    assert "why" not in str(register(Session()).explain(engine, [Made]))


TRIGGER = (
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER t AFTER UPDATE ON tag EXECUTE FUNCTION nothing()",
)
ON_UPDATE = "tag has a rule or a trigger on UPDATE"


@pytest.mark.parametrize(
    ("model", "settings", "before", "many", "reason"),
    [
        (Tag, {}, [], True, None),
        (Tag, {"mode": "off"}, [], False, "mode is off"),
        (Tag, {}, TRIGGER, True, f"UPDATE: {ON_UPDATE}"),
        (
            Tag,
            {},
            [*TRIGGER, "CREATE RULE r AS ON DELETE TO tag DO ALSO NOTHING"],
            False,
            f"UPDATE: {ON_UPDATE}; DELETE: {ON_UPDATE.replace('UPDATE', 'DELETE')}",
        ),
        (OneByOne, {}, [], True, "UPDATE: the mapper has batch=False"),
        (Versioned, {}, [], True, "UPDATE: its version is generated by the database"),
        (Stamped, {}, [], True, "UPDATE: values of the database come back with each row"),
        (Nowhere, {}, ["DROP TABLE nowhere"], False, "the database has no such table"),
    ],
)
def test_it_says_from_how_many_rows_changes_travel_together(
    engine: Engine,
    model: type[Any],
    settings: dict[str, Any],
    before: Sequence[str],
    many: bool,
    reason: str | None,
) -> None:
    """If changed or deleted objects go one by one, explain() gives the reason with its remedy, and
    names the statement if it concerns one of the two.
    """
    Base.metadata.create_all(engine)
    for cls in (Nowhere, Versioned, Stamped):
        cls.__table__.create(engine, checkfirst=True)  # type: ignore[attr-defined]  # declarative's
    with engine.begin() as connection:
        for statement in before:
            connection.execute(text(statement))
    found = explained(engine, model, **settings)
    assert (found.many_from is not None) == many
    assert found.many_reason == reason
    assert (found.many_remedy is None) == (reason is None)


@pytest.mark.usefixtures("distance_held")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
async def test_what_it_says_of_changes_is_what_a_flush_does(shop: Engine, driver: str) -> None:
    """The number ``many_from`` of changed, or deleted, objects travels together, and one fewer does
    not.
    """
    url = shop.url.set(drivername=f"postgresql+{driver}")
    reports: list[FlushReport] = []

    def act(session: Session, count: int) -> None:
        tags = [Tag(word="a") for _ in range(count)]
        session.add_all(tags)
        session.commit()
        for tag in tags:
            tag.word = "b"
        session.flush()
        for tag in tags:
            session.delete(tag)
        session.commit()

    def writers() -> list[str]:
        return [entry.writer for report in reports[1:] for entry in report.entries]

    async def written(count: int | None) -> tuple[int, list[str]]:
        reports.clear()
        if driver == "asyncpg":
            engine = create_async_engine(url)
            async with AsyncSession(engine) as session:
                registration = register(session)
                registration.on_flush(reports.append)
                [told] = await aio.explain(registration, engine, [Tag])
                assert told.many_from is not None
                await session.run_sync(act, count or told.many_from)
            await engine.dispose()
            return told.many_from, writers()
        plain = create_engine(url)
        with Session(plain) as session:
            registration = register(session)
            registration.on_flush(reports.append)
            [told] = registration.explain(plain, [Tag])
            assert told.many_from is not None
            act(session, count or told.many_from)
        plain.dispose()
        return told.many_from, writers()

    fewest, found = await written(None)
    assert found == ["copy", "copy"]
    _, found = await written(fewest - 1)
    assert found == ["insert", "insert"]


def test_a_class_that_is_not_mapped_yet(shop: Engine) -> None:
    """A class that SQLAlchemy maps only when it configures mappers does not disturb explain()."""

    class Beside(DeclarativeBase):
        pass

    class Later(AbstractConcreteBase, Beside):
        strict_attrs = True

    class Now(Later):
        __tablename__ = "now_beside"
        __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "now", "concrete": True}
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Now in {item.model for item in register(Session()).explain(shop)}
