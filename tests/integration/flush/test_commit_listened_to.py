"""A listener between a flush and its COMMIT may act as in plain SQLAlchemy, even where the COMMIT
would otherwise travel along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.commits import EACH, SHAPES, WAYS, Author, Note, travelled, trial
from sqlalchemy import (
    event,
    text,
)
from sqlalchemy.orm import (
    Session,
)

pytestmark = pytest.mark.usefixtures("commits_pay")


def session_listener(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """A listener to an event of the session, which takes notes and acts."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        done = False

        def listener(*_args: Any) -> None:
            nonlocal done
            heard.append((name, len(session.new), session.in_transaction()))
            if done:
                return
            done = True
            if act == "raise":
                raise RuntimeError(name)
            if act == "execute":
                session.execute(text("INSERT INTO public.note (words) VALUES ('heard')"))
            if act == "add":
                session.add(Note(words="added"))
            if act == "flush":
                session.flush()
                raise RuntimeError(f"{name} after a flush")

        event.listen(session, name, listener)
        return lambda: event.remove(session, name, listener)

    return prepare


SESSION_EVENTS = [
    *((name, act) for name in ("after_flush", "after_flush_postexec") for act in ("raise", "add")),
    ("after_flush", "execute"),
    ("before_commit", "raise"),
    ("before_commit", "flush"),
    ("before_commit", "add"),
    ("pending_to_persistent", "raise"),
    ("after_transaction_end", "note"),
    ("after_transaction_create", "note"),
    ("after_commit", "note"),
    ("after_commit", "raise"),
    ("before_flush", "add"),
    ("before_flush", "raise"),
]


@pytest.mark.parametrize(("name", "act"), SESSION_EVENTS)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[5]])
def test_a_listener_of_the_session_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """A listener to the session between its flush and the COMMIT may still refuse, or write."""
    run = trial(SHAPES[shape], session_listener(name, act))
    travelled(twin_urls, WAYS[way], run)


def engine_listener(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """A listener to an event of the session's connections, which takes notes and acts."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        engine, count = session.get_bind(), 0

        def listener(*args: Any) -> None:
            nonlocal count
            if name.endswith("cursor_execute"):
                if "pg_attribute" in args[2] or "nextval(" in args[2]:
                    return
                heard.append((name, args[2].partition("(")[0]))
            else:
                heard.append(name)
            count += 1
            if act == "raise" or (act == "raise on the second" and count == 2):
                raise RuntimeError(name)

        event.listen(engine, name, listener)
        return lambda: event.remove(engine, name, listener)

    return prepare


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("commit", "note"),
        ("commit", "raise"),
        ("rollback", "note"),
        ("begin", "note"),
        ("before_cursor_execute", "note"),
        ("before_cursor_execute", "raise"),
        ("before_cursor_execute", "raise on the second"),
        ("after_cursor_execute", "note"),
        ("after_cursor_execute", "raise"),
        ("after_cursor_execute", "raise on the second"),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_a_listener_of_the_engine_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """A listener to a statement, or to the COMMIT, may still refuse it, and is called once."""
    run = trial(SHAPES[shape], engine_listener(name, act))
    travelled(twin_urls, WAYS[way], run)


def of_mapper(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """A listener to an event of a mapper or of its objects, which takes notes and acts."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        def listener(*args: Any) -> None:
            heard.append(name)
            if act == "raise":
                raise RuntimeError(name)
            if act == "execute":
                args[1].execute(text("INSERT INTO public.note (words) VALUES ('heard')"))
            if act == "add" and heard.count(name) == 1:
                session.add(Note(words="added"))

        event.listen(Author, name, listener)
        return lambda: event.remove(Author, name, listener)

    return prepare


@pytest.mark.filterwarnings("ignore:Usage of the 'Session.add")
@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("after_insert", "raise"),
        ("after_insert", "execute"),
        ("before_insert", "raise"),
        ("before_insert", "execute"),
        ("before_insert", "add"),
        ("refresh_flush", "raise"),
        ("expire", "note"),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_a_listener_of_a_class_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """A listener to an inserted object may still refuse it, or write beside it."""
    run = trial(SHAPES[shape], of_mapper(name, act))
    travelled(twin_urls, WAYS[way], run)
