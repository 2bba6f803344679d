"""Sessions with more than one database: replicas for reads, shards, and read-only databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Insert, create_engine, text, true
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from sqla_seqreserve import (
    assign_ids,
    bulk_delete,
    bulk_insert,
    bulk_sync,
    bulk_update,
    bulk_upsert,
    reserve_ids,
)
from sqla_seqreserve.errors import ConfigurationError, ReadOnlyError
from sqla_seqreserve.health import check_sequences, repair_sequences


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


@pytest.fixture
def replica(engine: Engine, clone_database: Callable[[str], str]) -> Iterator[Engine]:
    """A second database with the same tables, which is read-only like a standby."""
    Base.metadata.create_all(engine)
    engine.dispose()
    url = clone_database(engine.url.render_as_string(hide_password=False))
    replica = create_engine(url, connect_args={"options": "-c default_transaction_read_only=on"})
    try:
        yield replica
    finally:
        replica.dispose()


@pytest.fixture
def session(engine: Engine, replica: Engine) -> Iterator[Session]:
    class RoutingSession(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **kw: Any) -> Any:
            if self._flushing or isinstance(clause, Insert):
                return engine
            return replica

    with RoutingSession(expire_on_commit=False) as session:
        yield session


def test_ids_come_from_where_rows_are_inserted(session: Session, engine: Engine) -> None:
    """reserve_ids, assign_ids and bulk_insert use the database to which the session sends an
    INSERT.
    """
    first = reserve_ids(session, Note, 5)
    note = Note(text="x")
    assign_ids(session, [note])
    session.add(note)
    keys = bulk_insert(session, Note, [{"text": "y"}])
    session.commit()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT last_value FROM note_id_seq")) == keys[0]
        assert set(connection.scalars(text("SELECT id FROM note"))) == {note.id, *keys}
    assert max(first) < note.id < keys[0]


def test_a_repair_goes_to_the_primary_and_a_check_where_reads_go(
    session: Session, engine: Engine
) -> None:
    """A repair uses the primary database, though a check reads from the replica."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note (id) VALUES (50)"))
    assert check_sequences(session, Base).healthy
    for source in (Note, None):
        report = repair_sequences(session, source, dry_run=True)
        assert report.moves == {"note_id_seq": 50}
    repair_sequences(session, Base)
    session.commit()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT nextval('note_id_seq')")) == 51


CALLS: dict[str, Callable[[Session], Any]] = {
    "reserve_ids": lambda session: reserve_ids(session, Note, 3),
    "assign_ids": lambda session: assign_ids(session, [Note()]),
    "bulk_insert": lambda session: bulk_insert(session, Note, [{"text": "x"}]),
    "bulk_insert with keys": lambda session: bulk_insert(session, Note, [{"id": 9}]),
    "bulk_upsert": lambda session: bulk_upsert(
        session, Note, [{"id": 9, "text": "x"}], conflict="id"
    ),
    "bulk_update": lambda session: bulk_update(session, Note, [{"id": 50, "text": "x"}]),
    "bulk_delete": lambda session: bulk_delete(session, Note, [50]),
    "bulk_sync": lambda session: bulk_sync(session, Note, [], key="id", scope=true()),
    "repairing note_id_seq": lambda session: repair_sequences(session, Note),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_database_that_may_only_be_read_is_one_short_error(
    replica: Engine, engine: Engine, call: str
) -> None:
    """If the database is read-only, the error is one line that names the call and the database,
    says what to do, and shows no SQL.
    """
    with create_engine(replica.url, poolclass=NullPool).begin() as connection:
        connection.execute(text("INSERT INTO note (id) VALUES (50)"))
    with Session(replica) as session, pytest.raises(ReadOnlyError) as caught:
        CALLS[call](session)
    message = str(caught.value)
    assert call.split()[0] in message
    assert str(replica.url.database) in message
    assert "READ ONLY" in message
    assert not re.search(r"nextval|UPDATE|DELETE", message)
    assert "return the primary for an Insert as its clause, which stands for every write" in message
    assert len(message.splitlines()) == 1


SHARDED: dict[str, Callable[[Session], Any]] = {
    **CALLS,
    "check_sequences": lambda session: check_sequences(session, None),
}


@pytest.mark.parametrize("call", SHARDED)
def test_a_session_that_picks_a_shard_for_each_object_is_refused(
    engine: Engine, replica: Engine, call: str
) -> None:
    """In a session that picks a shard for each object the calls are refused with a reason, before
    any shard is picked.
    """
    asked: list[Any] = []

    def choose(*arguments: Any) -> str:
        asked.append(arguments)
        return "a"

    shards = {"a": engine, "b": replica}
    make = sessionmaker(
        class_=ShardedSession,
        shards=shards,
        shard_chooser=choose,
        identity_chooser=lambda *_a, **_k: ["a"],
        execute_chooser=lambda _context: ["a"],
    )
    with make() as session, pytest.raises(ConfigurationError, match="ShardedSession picks a"):
        SHARDED[call](session)
    assert asked == []
