"""Objects that refer to their own class: a child is written after its parent, in every way of
writing.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from fixtures.trees import (
    SETTINGS,
    Base,
    Node,
    Single,
    shape,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session

TREES: list[type[Any]] = [Node, Single]


def upside_down(model: type[Any], levels: int, wide: int, *, keys: bool) -> list[Any]:
    """A tree whose children are added before their parents."""
    every: list[Any] = [model(name="root")]
    above = list(every)
    for _ in range(levels):
        above = [model(name="n", parent=parent) for parent in above for _ in range(wide)]
        every += above
    for number, node in enumerate(every):
        if keys:
            node.id = 1000 + number
    return every[::-1]


def planting(
    model: type[Any], *, keys: bool, levels: int = 2, wide: int = 2, **session: Any
) -> Any:
    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            nodes = upside_down(model, levels, wide, keys=keys)
            session.add_all(nodes)
            try:
                session.flush()
            except SQLAlchemyError as error:
                return refusal(error)
            found = shape(nodes)
            session.rollback()
            return found

        return side.run(save, **session)

    return trial


@pytest.mark.parametrize("way", SETTINGS, ids=str)
@pytest.mark.parametrize("model", TREES)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_a_child_that_is_added_first(
    twin_urls: tuple[str, str], model: type[Any], way: Way, keys: bool
) -> None:
    """A child that is added before its parent is saved after it, with every setting."""
    both(twin_urls, Base, planting(model, keys=keys), way=way)


@pytest.mark.parametrize("driver", DRIVERS[1:])
@pytest.mark.parametrize("way", SETTINGS[1:3], ids=str)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_on_every_driver(twin_urls: tuple[str, str], way: Way, keys: bool, driver: str) -> None:
    """On every driver a child that is added before its parent is saved after it."""
    both(twin_urls, Base, planting(Node, keys=keys), way=way, driver=driver)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("model", TREES)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_in_a_two_phase_session(
    twin_urls: tuple[str, str], model: type[Any], way: Way, keys: bool, driver: str
) -> None:
    """In a two-phase session, which SQLAlchemy saves, a child that is added first is saved after
    its parent.
    """
    both(twin_urls, Base, planting(model, keys=keys, twophase=True), way=way, driver=driver)


@pytest.mark.parametrize("way", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_many_in_a_two_phase_session(twin_urls: tuple[str, str], way: Way, keys: bool) -> None:
    """In a two-phase session a child is saved after its parent, also with more rows than fit into
    one statement.
    """
    trial = planting(Node, keys=keys, levels=10, wide=2, twophase=True)
    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize("way", SETTINGS, ids=str)
@pytest.mark.parametrize("model", TREES)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_in_a_flush_of_certain_objects(
    twin_urls: tuple[str, str], model: type[Any], way: Way, keys: bool
) -> None:
    """In flush(objects) a child that is added first is saved after its parent."""

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            parent, child = model(name="parent"), model(name="child")
            session.add_all([child, parent])
            child.parent = parent
            if keys:
                child.id, parent.id = 11, 10
            with warnings.catch_warnings():
                # Newer releases of SQLAlchemy warn of flush(objects).
                warnings.simplefilter("ignore", DeprecationWarning)
                session.flush([child, parent])
            found = shape([child, parent])
            session.rollback()
            return found

        return side.run(save)

    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize("way", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("keys", [False, True], ids=["numbered", "own keys"])
def test_in_a_sharded_session(twin_urls: tuple[str, str], way: Way, keys: bool) -> None:
    """In a sharded session a child that is added first is saved after its parent."""

    def trial(side: Side) -> Any:
        with ShardedSession(
            shard_chooser=lambda *_: "only",
            identity_chooser=lambda *_, **__: ["only"],
            execute_chooser=lambda _: ["only"],
            shards={"only": side.engine},  # type: ignore[dict-item]  # a synchronous one
        ) as session:
            side._register(session)
            parent, child = Node(name="parent"), Node(name="child")
            session.add_all([child, parent])
            child.parent = parent
            if keys:
                child.id, parent.id = 11, 10
            session.flush()
            found = shape([child, parent])
            session.rollback()
            return found

    both(twin_urls, Base, trial, way=way)
