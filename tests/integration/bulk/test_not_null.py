"""Columns that take no NULL, in rows that give them none or NULL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, true, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_sync, bulk_update, bulk_upsert
from sqla_seqreserve.errors import InvalidRowsError


class Base(DeclarativeBase):
    pass


class Task(Base):
    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="new")
    weight: Mapped[int] = mapped_column(default=1)
    title: Mapped[str]


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def test_an_update_to_null_of_a_column_with_a_default(session: Session) -> None:
    """If bulk_update is given NULL for a column that takes none, the error does not say that a
    column with a default has none.
    """
    with pytest.raises(InvalidRowsError) as caught:
        bulk_update(session, Task, [{"id": 1, "state": None, "weight": None, "title": None}])
    given = "has no value, and the column takes no NULL"
    assert {problem.attribute: problem.problem for problem in caught.value.problems} == {
        "state": f"{given}: its default is for new rows only",
        "weight": f"{given}: its default is for new rows only",
        "title": f"{given} and has no default",
    }


FILLS = """
CREATE FUNCTION filled() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.title := coalesce(NEW.title, 'untitled'); RETURN NEW; END $$;
CREATE TRIGGER fills BEFORE {} ON task FOR EACH ROW EXECUTE FUNCTION filled()
"""


@pytest.mark.parametrize("many", [1, 300])
def test_a_trigger_fills_a_column_of_new_rows(session: Session, many: int) -> None:
    """A column that takes no NULL needs no value where a trigger fills it, as with plain
    SQLAlchemy.
    """
    session.execute(text(FILLS.format("INSERT")))
    rows: list[dict[str, Any]] = [{"id": n} for n in range(many)]
    session.execute(insert(Task), rows)
    session.execute(text("DELETE FROM task"))
    assert bulk_insert(session, Task, rows, returning=None) == many
    more = [{"id": many + n, "title": None} for n in range(many)]
    assert bulk_upsert(session, Task, more, conflict="id").inserted == many
    every = [{"id": n} for n in range(3 * many)]
    done = bulk_sync(session, Task, every, key="id", scope=true())
    assert (done.inserted, done.unchanged) == (many, 2 * many)
    assert set(session.scalars(select(Task.title))) == {"untitled"}
    assert len(session.scalars(select(Task.id)).all()) == 3 * many


@pytest.mark.parametrize("many", [1, 300])
def test_a_trigger_fills_a_column_of_changed_rows(session: Session, many: int) -> None:
    """A column that takes no NULL can be set to NULL where a trigger fills it, as with plain
    SQLAlchemy.
    """
    session.execute(text(FILLS.format("UPDATE")))
    bulk_insert(session, Task, [{"id": n, "title": "x"} for n in range(many)])
    rows = [{"id": n, "title": None} for n in range(many)]
    session.execute(update(Task), rows)
    session.execute(text("UPDATE task SET title = 'x'"))
    assert bulk_update(session, Task, rows).updated == many
    assert set(session.scalars(select(Task.title))) == {"untitled"}


def test_a_trigger_is_noticed_that_was_created_meanwhile(session: Session) -> None:
    """Rows are not refused by what was known of a table before a trigger was created."""
    bulk_insert(session, Task, [{"id": 1, "title": "x"}])
    session.execute(text(FILLS.format("INSERT")))
    bulk_insert(session, Task, [{"id": 2}])
    assert session.scalars(select(Task.title).order_by(Task.id)).all() == ["x", "untitled"]
