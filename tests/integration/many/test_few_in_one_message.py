"""Changed, deleted and new objects and link rows of one flush travel in one message, with the same
results as SQLAlchemy, which sends one statement after the other.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.flushes import DEFAULT, EVERY, compared, picture, rows_of, saved
from fixtures.flushes import far as far
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
from fixtures.sides import Side, both
from sqlalchemy import event, text
from sqlalchemy.orm import Session

pytestmark = pytest.mark.usefixtures("far")

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
    """Objects changed in different columns, deleted objects and link rows that travel in one
    message are written, and reported to listeners, as one after the other.
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
    """A value that an UPDATE computes comes back, or is loaded again, as with plain SQLAlchemy."""

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
def test_versions_that_differ(twin_urls: tuple[str, str], driver: str) -> None:
    """Objects with different versions are counted up, each from its own version."""

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
    """Many objects with different versions that one statement writes are counted up, each from its
    own version.
    """

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
    """Rows that refer to each other are written in a valid order: new parents before the children
    that move to them, children deleted before their parents.
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
    """Objects with rows in two tables are changed, deleted and inserted in both."""

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
    """Objects that refer to their own class, also with post_update, are written as by plain
    SQLAlchemy.
    """

    def act(session: Session) -> list[Any]:
        nodes = saved(session, *(Node(name=f"n{i}") for i in range(4)))
        nodes[0].name = "x"
        nodes[1].parent = nodes[0]
        nodes[2].best = new = Node(name="new", parent=nodes[3])
        session.delete(nodes[1])
        return [*nodes, new]

    compared(twin_urls, driver, act, inserts=False)


@EVERY
def test_listeners_of_objects(twin_urls: tuple[str, str], driver: str) -> None:
    """A listener before or after an object's write sees, in objects and database, what is written
    by then.
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
