"""Columns that the database stores under another name than the model gives: unquoted names are in
lower case there, and long ones are cut.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, ForeignKey, event, select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import quoted_name

from sqla_seqreserve import (
    SyncResult,
    bulk_delete,
    bulk_insert,
    bulk_sync,
    bulk_update,
    bulk_upsert,
)

pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Unquoted(Base):
    __tablename__ = "unquoted_names"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(quoted_name("Code", quote=False), unique=True)
    value: Mapped[int] = mapped_column(quoted_name("Value", quote=False))


class Long(Base):
    __tablename__ = "long_names"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column("value_" * 11)


class Parent(Base):
    __tablename__ = "unquoted_parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    value: Mapped[int] = mapped_column(quoted_name("Value", quote=False))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "parent"}


class Child(Parent):
    __tablename__ = "unquoted_child"
    id: Mapped[int] = mapped_column(ForeignKey(Parent.id), primary_key=True)
    other: Mapped[int] = mapped_column(quoted_name("Other", quote=False))
    __mapper_args__ = {"polymorphic_identity": "child"}


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def stored(session: Session, model: Any) -> dict[str, int]:
    return {row.code: row[1] for row in session.execute(select(model.code, model.value))}


@pytest.mark.parametrize("listened", [False, True], ids=["", "row by row"])
@pytest.mark.parametrize("model", [Unquoted, Long])
def test_every_bulk_function_finds_the_column(session: Session, model: Any, listened: bool) -> None:
    """Each bulk function writes columns of such names, in one statement and row by row."""
    if listened:
        event.listen(session.get_bind(), "before_execute", lambda *_: None)
    [key] = bulk_insert(session, model, [{"code": "a", "value": 1}])
    bulk_upsert(
        session, model, [{"code": c, "value": 2} for c in "ab"], conflict="code", update="value"
    )
    assert stored(session, model) == {"a": 2, "b": 2}
    bulk_update(session, model, [{"code": "b", "value": 3}], key="code")
    rows = [{"code": "b", "value": 4}, {"code": "c", "value": 4}]
    done = bulk_sync(session, model, rows, key="code", scope=model.value > 2)
    assert done == SyncResult(1, 1, 0, 0)
    assert bulk_delete(session, model, [key]) == 1
    assert stored(session, model) == {"b": 4, "c": 4}


def test_a_class_of_several_tables(session: Session) -> None:
    """bulk_update and bulk_delete find such columns in each table of a class."""
    keys = bulk_insert(session, Child, [{"value": 1, "other": 2}])
    bulk_update(session, Child, [{"id": keys[0], "value": 5, "other": 6}])
    assert session.execute(select(Child.value, Child.other)).all() == [(5, 6)]
    assert bulk_delete(session, Child, keys) == 1


def test_nothing_else_is_deleted(session: Session) -> None:
    """bulk_sync of a whole table compares such a column, and leaves equal rows alone."""
    rows = [{"code": c, "value": 1} for c in "abc"]
    bulk_insert(session, Unquoted, rows)
    assert bulk_sync(session, Unquoted, rows, key="code", scope=true()) == SyncResult(0, 0, 3, 0)
