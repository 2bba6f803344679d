"""bulk_insert: mappings in, ids or objects out; errors, and rows that do not go by COPY."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import (
    BigInteger,
    Engine,
    ForeignKey,
    Identity,
    String,
    create_engine,
    func,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, reserve_ids
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column("note_no", BigInteger, Identity(), primary_key=True)
    body: Mapped[str] = mapped_column("text_", String(20))
    stars: Mapped[int] = mapped_column(default=3)
    seen: Mapped[dt.datetime | None]
    state: Mapped[str] = mapped_column(server_default="new")


class Animal(Base):
    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "dog"}


@pytest.fixture(params=["psycopg", "psycopg2"])
def session(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session on each synchronous driver."""
    Base.metadata.create_all(engine)
    through = create_engine(engine.url.set(drivername=f"postgresql+{request.param}"))
    with Session(through) as session:
        yield session
    through.dispose()


def test_ids_are_aligned_with_the_rows(session: Session) -> None:
    """The n-th id is the key of the n-th row, in one reservation and one COPY."""
    rows = [{"body": f"n{number}"} for number in range(50)]
    bulk_insert(session, Note, rows[:1])
    with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
        ids = bulk_insert(session, Note, rows)
    assert [str(statement).split()[0] for statement in sent] == ["SELECT", "COPY"]
    found = {row.id: row.body for row in session.execute(select(Note.id, Note.body))}
    assert [found[key] for key in ids] == [row["body"] for row in rows]


def test_keys_and_defaults(session: Session) -> None:
    """A key that a row gives stays; None for a column with a default counts as omitted."""
    [own] = reserve_ids(session, Note, 1)
    ids = bulk_insert(session, Note, [{"body": "a", "stars": None}, {"id": own, "body": "b"}])
    assert ids[1] == own
    assert ids[0] != own
    rows = session.execute(select(Note.stars, Note.state).order_by(Note.body)).all()
    assert [tuple(row) for row in rows] == [(3, "new"), (3, "new")]


def test_objects_are_persistent_without_a_select(session: Session) -> None:
    """returning="objects" gives instances of the session, loaded with the written values."""
    bulk_insert(session, Note, [{"body": "first"}])
    with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
        notes = bulk_insert(session, Note, [{"body": "a"}, {"body": "b"}], returning="objects")
        assert [(note.body, note.stars, note.seen) for note in notes] == [("a", 3, None)] * 1 + [
            ("b", 3, None)
        ]
    assert len(sent) == 2
    assert all(note in session for note in notes)
    assert session.get(Note, notes[0].id) is notes[0]
    assert notes[0].state == "new"  # filled by the database, loaded when asked for
    notes[1].body = "changed"
    session.commit()
    assert session.scalars(select(Note.body).order_by(Note.id)).all() == ["first", "a", "changed"]


def test_objects_are_expunged_by_a_rollback(session: Session) -> None:
    """A rollback removes returned objects from the session, like those of a flush."""
    [note] = bulk_insert(session, Note, [{"body": "a"}], returning="objects")
    session.rollback()
    assert note not in session
    assert session.scalar(select(func.count()).select_from(Note)) == 0


def test_expressions_go_by_insert(session: Session) -> None:
    """A row with an SQL expression is written by INSERT; the others go by COPY."""
    rows = [{"body": "plain"}, {"body": func.lower("UPPER")}, {"body": "too"}]
    ids = bulk_insert(session, Note, rows)
    found = {row.id: row.body for row in session.execute(select(Note.id, Note.body))}
    assert [found[key] for key in ids] == ["plain", "upper", "too"]


def test_joined_inheritance_writes_every_table(session: Session) -> None:
    """One id for all tables of a class, and the polymorphic identity is set."""
    ids = bulk_insert(session, Dog, [{"name": "Rex"}, {"name": "Bello"}])
    dogs = session.scalars(select(Animal).order_by(Animal.id)).all()
    assert [(type(dog), dog.id) for dog in dogs] == [(Dog, key) for key in ids]


def test_every_bad_row_is_listed_and_nothing_reserved(session: Session) -> None:
    """Unknown attributes, missing values and items that are no mappings are all listed in one error
    before an id is taken.
    """
    bad = [{"body": "ok"}, {"body": None}, {"body": "x", "nope": 1}, 5, {}]
    with pytest.raises(InvalidRowsError) as refused:
        bulk_insert(session, Note, bad)  # type: ignore[list-item]  # what the test is about
    assert [(problem.index, problem.attribute) for problem in refused.value.problems] == [
        (1, "body"),
        (2, "nope"),
        (3, ""),
        (4, "body"),
    ]
    assert session.scalar(text("SELECT is_called FROM note_note_no_seq")) is False


def test_a_refusal_of_the_database_is_sqlalchemys(session: Session) -> None:
    """A duplicate key is an IntegrityError; after a rollback the session goes on."""
    ids = bulk_insert(session, Note, [{"body": "a"}])
    session.commit()
    with pytest.raises(IntegrityError):
        bulk_insert(session, Note, [{"id": ids[0], "body": "again"}])
    session.rollback()
    assert len(bulk_insert(session, Note, [{"body": "b"}])) == 1


def test_progress_adds_up(session: Session) -> None:
    """progress is called with the rows sent since the last call."""
    seen: list[int] = []
    bulk_insert(session, Note, [{"body": "x"}] * 10_000, progress=seen.append)
    assert sum(seen) == 10_000
    assert len(seen) > 1


def test_no_rows_send_nothing(session: Session) -> None:
    """An empty iterable gives no ids, and takes none."""
    assert len(bulk_insert(session, Note, iter(()))) == 0
    assert session.scalar(text("SELECT is_called FROM note_note_no_seq")) is False


def test_returning_is_checked(session: Session) -> None:
    """An unknown value of ``returning`` is refused, and the error names it."""
    with pytest.raises(ConfigurationError, match="'ids' or 'objects'"):
        bulk_insert(session, Note, [], returning="rows")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "options", [{"query_cache_size": 0}, {"execution_options": {"compiled_cache": None}}]
)
def test_an_engine_that_caches_no_statements(engine: Engine, options: dict[str, object]) -> None:
    """Rows that COPY refuses are written on an engine without a cache of compiled statements."""
    Base.metadata.create_all(engine)
    own = create_engine(engine.url, **options)  # type: ignore[arg-type]  # a test's parameters
    east = dt.timezone(dt.timedelta(hours=1))
    with Session(own) as session:
        session.execute(text("SET TIME ZONE 3"))
        rows = [{"body": "a", "seen": dt.datetime(2026, 1, 1, 1, tzinfo=east)} for _ in range(9)]
        assert len(bulk_insert(session, Note, rows)) == 9
        assert session.scalar(select(func.count(Note.seen))) == 9
    own.dispose()
