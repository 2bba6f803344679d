"""A default is called, and a type processes a value, once per row, even if COPY refuses the result
and the row goes by INSERT.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from typing import Any

import pytest
from fixtures.sides import WAYS, Side, Way, both
from sqlalchemy import DateTime, FetchedValue, String, TypeDecorator, Uuid, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

asked: Counter[str] = Counter()


class Moment(dt.datetime):
    """A time that only the driver can write."""


class Noted(TypeDecorator[dt.datetime]):
    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: dt.datetime | None, dialect: Any
    ) -> dt.datetime | None:  # SQLAlchemy's signature
        asked["process_bind_param"] += 1
        return None if value is None else Moment(*value.timetuple()[:5])


class Named(TypeDecorator[uuid.UUID]):
    """A key whose database value differs from its Python value."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: uuid.UUID | None, dialect: Any) -> str | None:  # as above
        asked["key"] += 1
        return None if value is None else f"key {value}"

    def process_result_value(self, value: str | None, dialect: Any) -> uuid.UUID | None:  # as above
        return None if value is None else uuid.UUID(value.removeprefix("key "))


def moment() -> Moment:
    asked["default"] += 1
    return Moment(2026, 11, 24)


def number(context: Any) -> int:
    asked["default in context"] += 1
    return len(context.get_current_parameters()["name"])


def key() -> uuid.UUID:
    asked["default of the key"] += 1
    return uuid.UUID(int=asked["default of the key"])


class Base(DeclarativeBase):
    pass


class Numbered(Base):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    given: Mapped[dt.datetime | None] = mapped_column(Noted)
    made: Mapped[dt.datetime] = mapped_column(Noted, default=moment)
    plain: Mapped[dt.datetime] = mapped_column(DateTime, default=moment)
    length: Mapped[int] = mapped_column(default=number)


class Eager(Base):
    """Values that the database fills in are returned, so that rows are matched by their key."""

    __tablename__ = "eager"
    __mapper_args__ = {"eager_defaults": True}  # declarative's own name
    id: Mapped[uuid.UUID] = mapped_column(Named, primary_key=True, default=key)
    name: Mapped[str]
    plain: Mapped[dt.datetime] = mapped_column(DateTime, default=moment)
    filled: Mapped[int] = mapped_column(server_default=text("7"))


class Native(Base):
    __tablename__ = "native"
    __mapper_args__ = {"eager_defaults": True}  # as above
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=key)
    name: Mapped[str]
    given: Mapped[dt.datetime | None] = mapped_column(Noted)
    filled: Mapped[int] = mapped_column(server_default=FetchedValue())


FILLED = "ALTER TABLE native ALTER filled SET DEFAULT 7"


def listen(side: Side, listener: str) -> None:
    """Add a listener that makes SQLAlchemy send all statements itself."""
    target = getattr(side.engine, "sync_engine", side.engine)
    if listener == "cursor":
        event.listen(target, "before_cursor_execute", lambda *_: None)
    elif listener == "statement":
        event.listen(target, "before_execute", lambda *_, **__: None)
    elif listener == "driver":
        for name in ("do_execute", "do_executemany"):
            event.listen(target.dialect, name, lambda *_: None)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("listener", ["none", "cursor", "statement", "driver"])
@pytest.mark.parametrize("model", [Numbered, Eager, Native])
@pytest.mark.parametrize("way", [WAYS[3], WAYS[4], WAYS[6]], ids=str)
def test_no_default_and_no_type_is_asked_twice(
    twin_urls: tuple[str, str], way: Way, model: type[Any], listener: str, driver: str
) -> None:
    """Defaults and types are called as often as in plain SQLAlchemy, with any listener and any
    returned values.
    """

    def trial(side: Side) -> Any:
        listen(side, listener)

        def save(session: Session) -> Any:
            asked.clear()
            rows: list[dict[str, Any]] = [
                {
                    "name": "n" * (i + 1),
                    **({"given": Moment(2026, 11, 1 + i)} if model is not Eager else {}),
                }
                for i in range(side.way.rows)
            ]
            if side.way.as_mappings:
                side.write(session, model, rows)
                counted, held = dict(asked), None
            else:
                items = [model(**row) for row in rows]
                session.add_all(items)
                session.flush()
                counted = dict(asked)
                names = [c.key for c in model.__table__.c if c.key != "id"]
                held = [[(name, vars(item).get(name)) for name in names] for item in items]
                assert all(session.get(model, item.id) is item for item in items)
            session.commit()
            return counted, held

        written = side.run(save)
        assert "copy" not in {writer for writer, _ in side.writers()}
        # If COPY refuses a row, the key that was reserved for it leaves a gap.
        columns = [c.name for c in model.__table__.c if model is not Numbered or c.name != "id"]
        return written, side.rows(
            f"SELECT {', '.join(columns)} FROM {model.__tablename__} ORDER BY length(name)"
        )

    counted = both(twin_urls, Base, trial, way=way, driver=driver, ddl=[FILLED])[0][0]
    assert set(counted.values()) == {way.rows} or model is Numbered
