"""Changed objects that set different columns take one statement for each set of columns, if nothing
can observe the order in which rows are changed.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from fixtures.executed import executed
from fixtures.seeds import seed
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Way, both, told_and_left
from sqlalchemy import JSON, Engine, NullPool, create_engine, event, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import register
from sqla_seqreserve._writers import kinds

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
WAYS = (Way("default settings"), Way("from one row", {"copy_min_rows": 1}))
COUNT = 120


class Base(DeclarativeBase):
    pass


class _Columns:
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int | None]
    word: Mapped[str | None]
    day: Mapped[dt.date | None]
    document: Mapped[Any] = mapped_column(JSON, nullable=True)
    touched: Mapped[str | None] = mapped_column(onupdate=lambda: "touched")


class Item(_Columns, Base):
    __tablename__ = "item"
    stamped: Mapped[dt.date | None] = mapped_column(onupdate=func.now())


class Named(_Columns, Base):
    """No two objects have the same name."""

    __tablename__ = "named"
    name: Mapped[str | None] = mapped_column(unique=True)


class Counted(_Columns, Base):
    """Has a version counter."""

    __tablename__ = "counted"
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Placed(_Columns, Base):
    """The database numbers its changes."""

    __tablename__ = "placed"
    place: Mapped[int | None] = mapped_column(
        onupdate=text("(SELECT coalesce(max(place), 0) + 1 FROM placed)")
    )


MODELS: tuple[type[Any], ...] = (Item, Named, Counted)
TABLES = ("item", "named", "counted", "heard")
HEARD = ("CREATE TABLE heard (id bigserial PRIMARY KEY, said text)",)
TRIGGER = (
    """CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO heard (said) VALUES (NEW.id::text); RETURN NEW; END $$""",
    "CREATE TRIGGER hear AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION hear()",
)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sorting always worth its cost."""
    monkeypatch.setattr(kinds, "_FIXED", 0.0)
    monkeypatch.setattr(kinds, "_STATEMENT", 1e6)


def fill(session: Session) -> None:
    for model in MODELS:
        session.add_all([model(id=i, number=i, word=f"w{i}") for i in range(COUNT)])
    session.commit()


def change(item: Any, values: random.Random) -> None:
    """Change some of an object's columns, or none."""
    number = values.randrange(1000)
    for key, value in (
        ("number", number),
        ("word", f"word {number}" if number % 3 else None),
        ("day", dt.date(2024, 1, 1) + dt.timedelta(number)),
        ("document", {"number": number} if number % 2 else None),
        ("touched", "by hand"),
        ("name", f"{item.id} {number}"),
    ):
        if hasattr(item, key) and values.random() < 0.3:
            setattr(item, key, value)


@pytest.mark.parametrize("ddl", [(), TRIGGER], ids=["", "trigger"])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_row_is_what_plain_sqlalchemy_writes(
    twin_urls: tuple[str, str], driver: str, way: Way, ddl: tuple[str, ...]
) -> None:
    """Rows, objects and versions of changed objects are plain SQLAlchemy's, and a trigger sees the
    rows in its order.
    """
    drawn = seed()

    def act(session: Session) -> Any:
        fill(session)
        values = random.Random(drawn)
        found = [item for model in MODELS for item in session.scalars(select(model))]
        for _ in range(2):
            for item in found:
                change(item, values)
            session.flush()
        left = [
            {key: value for key, value in vars(item).items() if not key.startswith("_")}
            for item in found
        ]
        session.commit()
        return left

    both(
        twin_urls,
        Base,
        lambda side: told_and_left(side, act, TABLES),
        way=way,
        driver=driver,
        ddl=(*HEARD, *ddl),
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_that_numbers_changes_numbers_them_in_their_order(
    twin_urls: tuple[str, str], driver: str
) -> None:
    def act(session: Session) -> Any:
        session.add_all([Placed(id=i) for i in range(COUNT)])
        session.commit()
        alternating(Placed, "number", "word")(session)
        session.commit()

    def trial(side: Any) -> Any:
        return told_and_left(side, act, ("placed",))[2]

    both(twin_urls, Base, trial, driver=driver, way=WAYS[0])


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_the_update_says_that_it_waited_too_long(twin_urls: tuple[str, str], driver: str) -> None:
    def act(session: Session) -> Any:
        fill(session)
        alternating(Item, "number", "word")(session)
        other = create_engine(session.get_bind().engine.url, poolclass=NullPool)
        with other.connect() as holder, session.no_autoflush:
            holder.execute(text("UPDATE item SET day = NULL WHERE id = 50"))
            session.execute(text("SET LOCAL lock_timeout = '50ms'"))
            try:
                session.flush()
            except OperationalError as error:
                session.rollback()
                return type(error.orig), (error.statement or "").split()[:2]
        return None

    def trial(side: Any) -> Any:
        return told_and_left(side, act, ("item",))[0]

    both(twin_urls, Base, trial, driver=driver, way=WAYS[0], ddl=HEARD)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_row_that_is_gone_is_missed(
    twin_urls: tuple[str, str], driver: str, model: type[Any]
) -> None:
    def act(session: Session) -> Any:
        fill(session)
        found = session.scalars(select(model)).all()
        for item in found:
            setattr(item, "number" if item.id % 2 else "word", 7 if item.id % 2 else "seven")
        with session.no_autoflush:
            session.execute(text(f"DELETE FROM {model.__tablename__} WHERE id = 50"))  # a name
        try:
            session.commit()
        except Exception as error:
            session.rollback()
            return type(error)
        return None

    def trial(side: Any) -> Any:
        found, _, rows = told_and_left(side, act, TABLES)
        return found, rows

    both(twin_urls, Base, trial, driver=driver, way=WAYS[0], ddl=HEARD)


def alternating(model: type[Any], *keys: str) -> Callable[[Session], object]:
    """Change one column of every other object, another column of the rest."""

    def act(session: Session) -> None:
        for item in session.scalars(select(model).order_by(model.id)):
            key = keys[item.id % len(keys)]
            setattr(item, key, f"{key} {item.id}" if key != "number" else -item.id - 1)

    return act


@pytest.mark.parametrize(
    ("model", "keys", "ddl", "expected"),
    [
        (Item, ("word", "number"), (), 2),
        (Item, ("word",), (), 1),
        (Named, ("word", "number"), (), 2),
        (Named, ("word", "name"), (), COUNT),
        (Item, ("word", "number"), (*HEARD, *TRIGGER), COUNT),
        (Item, ("word", "number"), ("CREATE UNIQUE INDEX ON item (number)",), COUNT),
    ],
)
def test_as_many_statements_as_kinds(
    engine: Engine,
    database_url: str,
    model: type[Any],
    keys: tuple[str, ...],
    ddl: tuple[str, ...],
    expected: int,
) -> None:
    """Changed objects take one UPDATE per set of columns, unless a trigger looks at each row, or a
    column of a unique index is set.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    with engine.begin() as connection:
        for each in ddl:
            connection.exec_driver_sql(each)
    assert len(executed(database_url, "UPDATE", alternating(model, *keys))) == expected


@pytest.mark.parametrize("ddl", [(*HEARD, *TRIGGER), ("CREATE UNIQUE INDEX ON item (number)",)])
def test_what_comes_in_between_is_seen(
    engine: Engine, database_url: str, ddl: tuple[str, ...]
) -> None:
    """The remembered facts of the table are compared under its lock, so a trigger or index made
    meanwhile is noticed.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    ours = create_engine(database_url)
    sessions = sessionmaker(ours)
    register(sessions)

    def heard() -> int:
        seen = []

        def note(*told: Any) -> None:
            if told[2].startswith("UPDATE"):
                seen.append(told[2])

        with sessions() as session:
            alternating(Item, "word", "number")(session)
            event.listen(ours, "before_cursor_execute", note)
            session.flush()
            event.remove(ours, "before_cursor_execute", note)
            session.rollback()
        return len(seen)

    assert heard() == 2
    with engine.begin() as connection:
        for each in ddl:
            connection.exec_driver_sql(each)
    assert heard() == COUNT
    ours.dispose()


def test_two_flushes_of_the_same_objects_wait_for_each_other(
    engine: Engine, database_url: str
) -> None:
    """Two flushes of the same objects do not deadlock, whichever columns each changes first, and
    every change of both is stored.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    rounds = 8
    failures: list[BaseException] = []
    barrier = threading.Barrier(2)

    def work(keys: tuple[str, str]) -> None:
        ours = create_engine(database_url)
        sessions = sessionmaker(ours)
        register(sessions)
        try:
            for turn in range(rounds):
                with sessions() as session:
                    found = session.scalars(select(Item).order_by(Item.id)).all()
                    for item in found:
                        key = keys[item.id % 2]
                        setattr(item, key, turn if key == "number" else f"{key} {turn}")
                    barrier.wait(30)
                    session.commit()
        except BaseException as error:
            failures.append(error)
            barrier.abort()
        finally:
            ours.dispose()

    threads = [
        threading.Thread(target=work, args=(keys,))
        for keys in (("number", "word"), ("touched", "number"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    with Session(engine) as session:
        found = {(i.id % 2, i.number, i.word, i.touched) for i in session.scalars(select(Item))}
    last = rounds - 1
    assert {(parity, number) for parity, number, _, _ in found} == {(0, last), (1, last)}
    assert {word for parity, _, word, _ in found if parity} == {f"word {last}"}
