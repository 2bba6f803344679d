"""Classes that keep their state in a place of their own, by SQLAlchemy's extension for
instrumentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import Column, ForeignKey, Integer, Table, Text, select
from sqlalchemy.ext import instrumentation
from sqlalchemy.orm import Session, registry, relationship
from sqlalchemy.orm.attributes import del_attribute, get_attribute, set_attribute
from sqlalchemy.orm.instrumentation import is_instrumented

WAYS = (Way("default settings"), Way("copy", {"copy_min_rows": 1}))
COUNT = 30


class Elsewhere(instrumentation.InstrumentationManager):
    """Keeps the values and state of an object in a dictionary of its own."""

    def get_instance_dict(self, class_: Any, instance: Any) -> Any:
        return instance._kept

    def initialize_instance_dict(self, class_: Any, instance: Any) -> None:
        instance.__dict__["_kept"] = {}

    def install_state(self, class_: Any, instance: Any, state: Any) -> None:
        instance.__dict__["_kept"]["state"] = state

    def state_getter(self, class_: Any) -> Any:
        return lambda instance: instance.__dict__["_kept"]["state"]


class Kept:
    __sa_instrumentation_manager__ = Elsewhere

    def __init__(self, **values: Any) -> None:
        for key, value in values.items():
            setattr(self, key, value)

    def __getattr__(self, key: str) -> Any:
        if is_instrumented(self, key):
            return get_attribute(self, key)
        try:
            return self._kept[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        if is_instrumented(self, key):
            set_attribute(self, key, value)
        else:
            self._kept[key] = value

    def __delattr__(self, key: str) -> None:
        del_attribute(self, key)


class Owner(Kept):
    pass


class Thing(Kept):
    pass


class Mapped:
    """The attributes of a declarative base that ``both`` uses."""

    metadata = registry().metadata


@pytest.fixture(autouse=True, scope="module")
def mapped() -> Iterator[None]:
    mappers = registry(metadata=Mapped.metadata)
    metadata = Mapped.metadata
    owners = Table("owner", metadata, Column("id", Integer, primary_key=True), Column("name", Text))
    things = Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("owner_id", ForeignKey("owner.id")),
    )
    mappers.map_imperatively(
        Owner, owners, properties={"things": relationship(Thing, backref="owner")}
    )
    mappers.map_imperatively(Thing, things)
    yield
    mappers.dispose()
    instrumentation._reinstall_default_lookups()


@EVERY
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_state_that_is_kept_elsewhere(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Objects of classes that keep their state elsewhere are saved and changed as by plain
    SQLAlchemy.
    """

    def act(session: Session) -> Any:
        session.add_all(Owner(name=str(i), things=[Thing(), Thing()]) for i in range(COUNT))
        session.commit()
        with session.begin_nested():
            for owner in session.scalars(select(Owner)).all():
                owner.name += "!"
                owner.things.pop()
        session.commit()
        found = session.execute(select(Thing.owner_id, Owner.name).join(Owner)).all()
        return sorted(map(tuple, found))

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ["owner", "thing"])

    both(twin_urls, Mapped, trial, way=way, driver=driver)
