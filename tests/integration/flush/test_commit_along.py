"""COMMIT in the message of the flush that ``commit()`` began: counted on the wire, and compared
with plain SQLAlchemy where nothing happens between the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.commits import (
    EACH,
    SHAPES,
    WAYS,
    Author,
    Base,
    Note,
    dated,
    family,
    one,
    saving,
    three_classes,
    travelled,
    trial,
)
from fixtures.sides import Side, both
from sqlalchemy import (
    Engine,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.orm import (
    Session,
    sessionmaker,
)

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve._database import known_of
from sqla_seqreserve._ids.catalogue import Tables
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import Wire, round_trips

pytestmark = pytest.mark.usefixtures("commits_pay")


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    # Not on the same machine: there the work of a statement counts for more than its round trip.
    with round_trips(database_url, round_trip_time=0.002) as wire:
        yield wire


def counted(wire: Wire, act: Callable[[Session], object], settings: dict[str, Any] | None) -> Any:
    """The round trips of an act when it runs the fourth time on an engine, each time in a new
    session; ``None``: plain SQLAlchemy.
    """
    engine = create_engine(wire.url)
    for time in (1, 2, 3, 4):
        with Session(engine) as session:
            if settings is not None:
                register(session, **settings)
            session.connection()
            # Those before are not counted, which takes 20 ms a message.
            with contextlib.nullcontext() if time < 4 else wire.counting() as count:
                act(session)
    engine.dispose()
    return count


def reading(session: Session) -> None:
    session.get(Author, 1)
    session.commit()


def reading_and_writing(session: Session) -> None:
    author = session.get(Author, 1)
    if author is None:
        author = Author(id=1, name="first")
        session.add(author)
    author.name += "."
    session.add(Note(words="changed"))
    session.commit()


def _read(session: Session) -> Author:
    author = session.scalars(select(Author).limit(1)).first()
    if author is None:
        session.add(Author(name="first"))
        session.commit()
        return _read(session)
    return author


def changing(session: Session) -> None:
    _read(session).name += "."
    session.commit()


def deleting(session: Session) -> None:
    session.add_all([Author(name="more"), Author(name="most")])
    session.flush()
    session.delete(_read(session))
    session.commit()


@pytest.mark.parametrize(
    ("act", "settings", "plain", "expected"),
    [
        (saving(one), {}, 3, 1),
        (saving(one), {"prefetch": 200}, 3, 1),
        (saving(dated), {}, 3, 1),
        (saving(lambda: [Note(words=str(n)) for n in range(70)]), {}, 3, 1),
        (saving(one), {"commit": "apart"}, 3, 2),
        (saving(family), {}, 4, 2),
        (saving(three_classes), {}, 5, 2),
        (saving(three_classes), {"prefetch": 200}, 5, 1),
        (saving(three_classes), {"commit": "apart"}, 5, 3),
        (reading, {}, 3, 2),
        (reading_and_writing, {}, 5, 2),
        (reading_and_writing, {"commit": "apart"}, 5, 3),
        (changing, {}, 4, 2),
        (changing, {"commit": "apart"}, 4, 3),
    ],
)
def test_a_save_takes_so_many_round_trips(
    wire: Wire, act: Any, settings: dict[str, Any], plain: int, expected: int
) -> None:
    """COMMIT takes no round trip of its own where it may travel along, and one everywhere else."""
    without = counted(wire, act, None)
    assert without.round_trips == plain, without
    ours = counted(wire, act, settings)
    assert ours.round_trips == expected, ours


def test_what_a_table_is_compared_by_goes_with_its_facts(wire: Wire, engine: Engine) -> None:
    """The comparison of a table is made once for all saves; after an ALTER TABLE it is made again,
    and the COMMIT then travels along as before.
    """
    ours = create_engine(wire.url)
    known = known_of(ours.dialect, Tables).facts

    def comparison() -> object:
        return known["public.note"].comparisons["id", True]

    def save() -> int:
        with Session(ours) as session:
            register(session)
            session.add(Note(words="a"))
            with wire.counting() as count:
                session.commit()
        return count.round_trips

    for _ in range(4):
        save()
    first = comparison()
    assert save() == 1
    assert comparison() is first
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE public.note ALTER id TYPE bigint"))
    assert save() > 1
    save()
    assert save() == 1
    assert comparison() is not first
    ours.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize(("way", "shape"), EACH)
def test_a_save_leaves_what_plain_sqlalchemy_leaves(
    twin_urls: tuple[str, str], driver: str, way: str, shape: str
) -> None:
    """If no listener can act in between, the COMMIT travels along, and objects, session and rows
    are those of plain SQLAlchemy.
    """
    run = trial(SHAPES[shape])
    committed = travelled(twin_urls, WAYS[way], run, driver)
    # Near the server a family's INSERTs may go one after the other.
    assert committed or (way, shape) == ("along", "family")


def read_first(session: Session) -> None:
    session.execute(text("SELECT 1"))


def savepoint(session: Session) -> None:
    session.begin_nested()


def in_block(session: Session) -> None:
    """The transaction of a ``with`` block ends as commit() does."""
    transaction = session.get_transaction()
    assert transaction is not None
    with transaction:
        pass


@pytest.mark.parametrize(
    ("before", "commit"),
    [
        (read_first, Session.commit),
        (savepoint, Session.commit),
        (Session.begin, in_block),
        (None, Session.flush),
        (lambda session: session.begin_nested(), Session.flush),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[5]])
def test_a_transaction_ends_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, before: Any, commit: Any
) -> None:
    """In a transaction that was begun before, a savepoint, a ``with`` block or a flush alone, all
    ends as in plain SQLAlchemy.
    """
    run = trial(SHAPES[shape], before=before, commit=commit)
    travelled(twin_urls, WAYS[way], run)


def test_explain_says_whether_the_commit_travels(engine: Engine) -> None:
    """explain() says that the COMMIT travels along, or names the setting, the driver or the
    listener that prevents it.
    """
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    registration = register(factory)
    assert str(registration.explain(engine, [Note])).endswith(
        "COMMIT: with the last message of a flush"
    )

    def reason(bind: Engine = engine) -> str:
        lines = str(register(factory, **settings).explain(bind, [Note])).partition("COMMIT: ")[2]
        return " ".join(lines.split())

    settings: dict[str, Any] = {"commit": "apart"}
    assert reason() == 'by itself: commit is "apart"'
    settings = {}
    psycopg2 = create_engine(engine.url.set(drivername="postgresql+psycopg2"))
    assert reason(psycopg2) == "by itself: psycopg2 sends COMMIT in a round trip of its own here"
    psycopg2.dispose()

    def listener(*_args: Any) -> None:
        pass

    for target, name in ((factory, "after_flush"), (engine, "after_cursor_execute")):
        event.listen(target, name, listener)
        assert reason() == f"by itself: a listener to {name} may act before the COMMIT"
        event.remove(target, name, listener)
    assert reason() == "with the last message of a flush"


def test_commit_is_along_or_apart(engine: Engine) -> None:
    """register() refuses a setting ``commit`` other than "along" and "apart"."""
    with pytest.raises(ConfigurationError, match="commit"):
        register(sessionmaker(engine), commit="with")  # type: ignore[arg-type]  # refused


def test_a_callback_that_fails_after_the_commit_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of a callback after the COMMIT is logged and not raised, because the rows are
    committed.
    """
    Base.metadata.create_all(engine)

    def fail(_report: FlushReport) -> None:
        raise RuntimeError("callback")

    with Session(engine) as session:
        register(session, reserve="always").on_flush(fail)
        session.add(Note(words="a"))
        session.commit()
        assert "callback" in caplog.text
        session.add(Note(words="b"))
        with pytest.raises(RuntimeError, match="callback"):
            session.flush()
        session.rollback()
        assert session.scalars(select(Note.words)).all() == ["a"]


def test_the_log_and_the_events_of_a_commit_are_where_they_were(
    twin_urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """BEGIN, INSERT and COMMIT are logged once, in this order; so are the session's own events."""

    def run(side: Side) -> Any:
        for _ in range(3):
            side.run(saving(one))
        heard: list[str] = []

        def save(session: Session) -> None:
            for name in ("after_begin", "after_commit"):
                event.listen(session, name, lambda *_, name=name: heard.append(name))
            session.add(Author(name="logged"))
            with caplog.at_level("INFO", "sqlalchemy.engine"):
                caplog.clear()
                session.commit()
            lines = [record.getMessage().split()[0] for record in caplog.records]
            heard.extend(line for line in lines if line.isupper())

        side.run(save)
        return heard

    assert both(twin_urls, Base, run, way=WAYS["along"]) == [
        "after_begin",
        "after_commit",
        "BEGIN",
        "INSERT",
        "COMMIT",
    ]
