"""Changed and deleted objects, link rows and new objects of one flush travel in one message, and
leave what SQLAlchemy leaves that sends one statement after the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.session_writes import (
    Animal,
    Base,
    Bird,
    Counted,
    Eager,
    Item,
    Node,
    Owner,
    Tag,
    Versioned,
)
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import (
    event,
    inspect,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

DRIVERS = ("psycopg", "psycopg_async", "psycopg2", "asyncpg")

EVERY = pytest.mark.parametrize("driver", DRIVERS)

TOGETHER = ("psycopg", "psycopg_async", "psycopg2")
"""Others send one statement after the other."""

DEFAULT = Way("default settings")


@pytest.fixture(autouse=True)
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have psycopg2 send several in one message, as it does where the server is farther."""
    monkeypatch.setattr("sqla_seqreserve._drivers.psycopg2._Psycopg2.gathers_from", 0.0)


class Strange:
    """What no driver takes for a value."""

    def __repr__(self) -> str:
        return "strange"


def picture(items: list[Any]) -> list[Any]:
    """What the objects hold, and what SQLAlchemy says that they are."""
    found = []
    for item in items:
        state = inspect(item)
        held = {
            key: value
            for key, value in state.dict.items()
            if isinstance(value, int | str | None) and not key.startswith("_")
        }
        status = (state.transient, state.pending, state.persistent, state.deleted)
        found.append((type(item).__name__, sorted(held.items()), status, state.modified))
    return found


def rows_of(side: Side) -> list[Any]:
    """Every row of every table, as text."""
    return [
        side.rows(f"SELECT t::text FROM {table.name} t ORDER BY 1")
        for table in Base.metadata.sorted_tables
    ]


Act = Callable[[Session], list[Any]]


def compared(
    urls: tuple[str, str], driver: str, act: Act, *, ddl: tuple[str, ...] = (), inserts: bool = True
) -> Any:
    """The statements as listeners hear of them, the refusal and its statement, the warnings, the
    objects and the rows that the act leaves on both sides, the same.

    :param inserts: the texts of INSERTs are the same, too.
    """

    def trial(side: Side) -> Any:
        heard: list[Any] = []
        engine: Any = getattr(side.engine, "sync_engine", side.engine)

        def hear(when: str) -> None:
            def listener(*arguments: Any) -> None:
                _, _, statement, parameters, _, many = arguments
                kinds = ("UPDATE", "DELETE", "INSERT") if inserts else ("UPDATE", "DELETE")
                if driver in TOGETHER and statement.startswith(kinds):
                    # Link rows come in the order of a set.
                    rows = sorted(map(repr, parameters)) if many else repr(parameters)
                    heard.append((when, statement, rows, many))

            event.listen(engine, f"{when}_cursor_execute", listener)

        def acting(session: Session) -> Any:
            items: list[Any] = []
            session.info["items"] = items
            items += act(session)
            hear("before")
            hear("after")
            outcome: Any = None
            try:
                session.flush()
            except SQLAlchemyError as error:
                outcome = (
                    refusal(error),
                    str(error).splitlines()[0],
                    getattr(error, "statement", None),
                    repr(getattr(error, "params", None)),
                )
            pictures = [picture(items)]
            if outcome is None:
                session.commit()
            else:
                session.rollback()
            pictures.append(picture(items))
            return outcome, pictures

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outcome = side.run(acting)
        said = [str(each.message) for each in caught]
        names = ("outcome", "warnings", "heard", "rows")
        return dict(zip(names, (outcome, said, heard, rows_of(side)), strict=True))

    return both(urls, Base, trial, way=DEFAULT, driver=driver, ddl=ddl)


def saved(session: Session, *items: Any) -> list[Any]:
    session.add_all(items)
    session.flush()
    return list(items)


def lose(session: Session, statement: str) -> None:
    with session.no_autoflush:
        session.execute(text(statement))


STAMP = (
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN NEW.stamped := 1 + coalesce(NEW.stamped, 0); RETURN NEW; END'",
    "CREATE TRIGGER stamp BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION stamp()",
    "CREATE TRIGGER stamp BEFORE UPDATE ON eager FOR EACH ROW EXECUTE FUNCTION stamp()",
    "CREATE FUNCTION count_on() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END'",
    "CREATE TRIGGER count_on BEFORE UPDATE ON versioned FOR EACH ROW EXECUTE FUNCTION count_on()",
)


@EVERY
def test_changed_deleted_linked(twin_urls: tuple[str, str], driver: str) -> None:
    """Objects changed in different columns, deleted ones and link rows of one flush are written as
    one after the other, and so they are heard of.
    """

    def act(session: Session) -> list[Any]:
        tags = saved(session, *(Tag(name=f"t{i}") for i in range(3)))
        items = saved(session, *(Item(number=i, tags=list(tags)) for i in range(5)))
        items[0].number = 8
        items[1].name = "x"
        items[2].number, items[2].name = 9, "y"
        items[3].tags.remove(tags[0])
        items[4].tags = [Tag(name="new")]
        items[0].number = Item.number + 5  # type: ignore[assignment]  # an expression
        session.delete(items[1])
        return [*tags, *items]

    compared(twin_urls, driver, act, ddl=STAMP, inserts=False)


@EVERY
def test_what_comes_back(twin_urls: tuple[str, str], driver: str) -> None:
    """What an UPDATE computes comes back, or is loaded again, as it would be."""

    def act(session: Session) -> list[Any]:
        eager = saved(session, Eager(number=1), Eager(number=2), Tag(), Item(number=1))
        eager += saved(session, Eager(number=5), *(Versioned(name=name) for name in "ab"))
        for one in eager[5:]:
            one.name += "!"
        session.flush()
        for one in eager[5:]:
            one.name += "?"
        eager[4].number = 6
        eager[0].number = 3
        eager[1].number = Eager.number + 4
        eager[2].name = "x"
        eager[3].number = 5
        return eager

    compared(twin_urls, driver, act, ddl=STAMP)


@EVERY
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("cls", [Tag, Counted, Versioned])
def test_a_stale_row(
    twin_urls: tuple[str, str], driver: str, cls: type[Any], deleted: bool
) -> None:
    """Where a row is gone the flush fails, or warns, with plain's words, and listeners have heard
    of no statement behind it.
    """

    def act(session: Session) -> list[Any]:
        found = saved(session, *(cls(name=f"n{i}") for i in range(3)), Item(number=1))
        saved(session, Animal(name="a"))
        for one in found[:3]:
            if deleted:
                session.delete(one)
            else:
                one.name += "!"
        found[3].number = 2
        lose(session, f"DELETE FROM {cls.__tablename__} WHERE name = 'n1'")
        return found

    compared(twin_urls, driver, act)


@EVERY
def test_a_stale_link(twin_urls: tuple[str, str], driver: str) -> None:
    """A link row that is gone fails the flush with plain's words."""

    def act(session: Session) -> list[Any]:
        tags = saved(session, Tag(), Tag())
        items = saved(session, *(Item(number=i, tags=list(tags)) for i in range(3)))
        for item in items:
            item.tags.remove(tags[0])
        items[0].number = 5
        lose(session, f"DELETE FROM tagged WHERE item_id = {items[1].id}")
        return items

    compared(twin_urls, driver, act)


@EVERY
def test_versions_that_differ(twin_urls: tuple[str, str], driver: str) -> None:
    """Objects with different versions count on, each from its own."""

    def act(session: Session) -> list[Any]:
        found = saved(session, *(Counted(name=f"n{i}") for i in range(3)))
        for _ in range(3):
            found[1].name += "!"
            session.flush()
        for one in found:
            one.name += "?"
        session.flush()
        for one in found:
            one.name += "."
        session.delete(found[2])
        return found

    compared(twin_urls, driver, act)


@pytest.mark.parametrize("rows", [3, 60])
def test_many_versions_that_differ(twin_urls: tuple[str, str], rows: int) -> None:
    """So do those that one statement writes together."""

    def act(session: Session) -> list[Any]:
        found = saved(session, *(Counted(name=f"n{i}") for i in range(rows)))
        for _ in range(3):
            found[1].name += "!"
            session.flush()
        for one in found:
            one.name += "?"
        session.flush()
        for one in found:
            one.name += "."
        return [*found, [one.version for one in found]][:rows]

    def trial(side: Side) -> Any:
        def acting(session: Session) -> Any:
            found = act(session)
            session.flush()
            versions = [one.version for one in found]
            session.commit()
            return versions

        return side.run(acting), rows_of(side)

    both(twin_urls, Base, trial, way=DEFAULT)


@EVERY
def test_parents_and_children(twin_urls: tuple[str, str], driver: str) -> None:
    """Rows that refer to each other are written in an order in which they may: new parents before
    those that move to them, children deleted before their parents.
    """

    def act(session: Session) -> list[Any]:
        owners = saved(
            session,
            *(Owner(name=f"o{i}", items=[Item(number=j) for j in range(3)]) for i in range(4)),
        )
        new = Owner(name="new")
        moved = owners[0].items[0]
        moved.owner = new
        new.items.append(Item(number=10))
        owners[1].name = "changed"
        owners[1].items.append(Item(number=11, tags=[Tag(name="t")]))
        owners[2].items.pop()
        session.delete(owners[3])
        return [*owners, moved, new]

    compared(twin_urls, driver, act, inserts=False)


@EVERY
def test_inherited(twin_urls: tuple[str, str], driver: str) -> None:
    """Objects of two tables are changed, deleted and inserted in both."""

    def act(session: Session) -> list[Any]:
        birds = saved(session, *(Bird(name=f"b{i}", wings=2) for i in range(3)), Animal(name="a"))
        birds[0].name = "x"
        birds[1].name, birds[1].wings = "y", 3
        birds[3].name = "z"
        session.delete(birds[2])
        session.add(Bird(name="new", wings=1))
        return birds

    compared(twin_urls, driver, act, inserts=False)


@EVERY
def test_circles(twin_urls: tuple[str, str], driver: str) -> None:
    """Objects that refer to their own class, also after both are written."""

    def act(session: Session) -> list[Any]:
        nodes = saved(session, *(Node(name=f"n{i}") for i in range(4)))
        nodes[0].name = "x"
        nodes[1].parent = nodes[0]
        nodes[2].best = new = Node(name="new", parent=nodes[3])
        session.delete(nodes[1])
        return [*nodes, new]

    compared(twin_urls, driver, act, inserts=False)


@EVERY
@pytest.mark.parametrize("which", ["unique", "check", "unknown", "foreign key"])
def test_a_refused_statement(twin_urls: tuple[str, str], driver: str, which: str) -> None:
    """Where the database, or the driver, refuses one of several statements the error is plain's for
    it, and the objects are left as plain leaves them.
    """

    def act(session: Session) -> list[Any]:
        owners = saved(session, Owner(name="a"), Owner(name="b"))
        items = saved(session, *(Item(number=i, owner=owners[0]) for i in range(3)))
        tag = saved(session, Tag(name="t"))[0]
        saved(session, Item(number=5, tags=[tag]))
        owners[0].name = "c"
        items[0].number = 7
        items[1].number = 8
        items[2].name = "z"
        tag.name = "changed"
        if which == "unique":
            owners[1].name, owners[0].name = "d", "d"
        elif which == "check":
            items[1].number = -1
        elif which == "unknown":
            items[2].name = Strange()  # type: ignore[assignment]
        else:
            session.delete(tag)
        new = Counted(name="new")
        session.add(new)
        return [*owners, *items, tag, new]

    compared(twin_urls, driver, act, inserts=False)


@EVERY
def test_listeners_of_objects(twin_urls: tuple[str, str], driver: str) -> None:
    """Who listens before and after an object is written sees what is written by then, in the
    objects and in the database.
    """
    seen: list[Any] = []
    names = ("before_insert", "after_insert", "before_update", "after_update")
    events = (*names, "before_delete", "after_delete")

    def act(session: Session) -> list[Any]:
        tags = saved(session, Tag(name="a"), Tag(name="b"))
        items = saved(session, Item(number=1), Counted(name="c"))
        items[0].number = 2
        items[1].name = "d"
        tags[0].name = "e"
        session.delete(tags[1])
        new = Tag(name="new")
        session.add(new)
        items = [*tags, *items, new]

        def listener(name: str) -> Any:
            def heard(_mapper: Any, connection: Any, target: Any) -> None:
                count = connection.scalar(
                    text("SELECT string_agg(t::text, ',' ORDER BY t::text) FROM tag t")
                )
                number = connection.scalar(text("SELECT sum(number) FROM item"))
                seen.append((name, type(target).__name__, count, number, picture(items)))

            return heard

        for cls in (Tag, Item, Counted):
            for name in events:
                function = listener(name)
                event.listen(cls, name, function)
                listening.append((cls, name, function))
        return items

    listening: list[Any] = []
    outcomes = []
    try:

        def keeping(session: Session) -> list[Any]:
            seen.clear()
            while listening:
                event.remove(*listening.pop())
            found = act(session)
            outcomes.append(list(seen))
            return found

        compared(twin_urls, driver, keeping, inserts=False)
    finally:
        while listening:
            event.remove(*listening.pop())
