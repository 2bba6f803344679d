"""If one of the statements of a message is refused, or its row is gone, the flush fails as with
plain SQLAlchemy, which sends one after the other.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.flushes import EVERY, compared, saved
from fixtures.flushes import far as far
from fixtures.session_writes import Animal, Counted, Item, Owner, Tag, Versioned
from sqlalchemy import text
from sqlalchemy.orm import Session

pytestmark = pytest.mark.usefixtures("far")


class Strange:
    """A value that no driver accepts."""

    def __repr__(self) -> str:
        return "strange"


def lose(session: Session, statement: str) -> None:
    with session.no_autoflush:
        session.execute(text(statement))


@EVERY
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("cls", [Tag, Counted, Versioned])
def test_a_stale_row(
    twin_urls: tuple[str, str], driver: str, cls: type[Any], deleted: bool
) -> None:
    """If a row is gone, the flush fails or warns with plain SQLAlchemy's text, and listeners saw no
    later statement.
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
    """If a link row is gone, the flush fails with plain SQLAlchemy's text."""

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
@pytest.mark.parametrize("which", ["unique", "check", "unknown", "foreign key"])
def test_a_refused_statement(twin_urls: tuple[str, str], driver: str, which: str) -> None:
    """If the database or the driver refuses one of several statements, its error and the objects'
    states are plain SQLAlchemy's.
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
