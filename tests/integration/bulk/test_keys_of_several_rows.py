"""bulk_update by a key that is not unique, and so finds several rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.changes import COUNTED, Base, Bird, Counted
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_update

pytestmark = pytest.mark.usefixtures("way")

ROWS = [{"name": "a", "change": 7}, {"name": "none", "change": 8}]


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(text(COUNTED))
        session.execute(
            text("INSERT INTO animal SELECT n, 'bird', 'x' || n, 0 FROM generate_series(1, 6) n")
        )
        session.execute(text("INSERT INTO bird SELECT n, n % 2, NULL FROM generate_series(1, 6) n"))
        yield session


def hold(session: Session) -> None:
    session.info["held"] = session.get_one(Counted, 2)


def listen(session: Session) -> None:
    event.listen(session.get_bind(), "before_cursor_execute", lambda *a: a[2:4], retval=True)


@pytest.mark.parametrize("returning", [None, "ids", "objects"])
@pytest.mark.parametrize(
    "prepare",
    [lambda _: None, hold, listen],
    ids=["nothing held", "an object held", "row by row"],
)
def test_all_of_them_are_updated_and_counted(
    session: Session, returning: Any, prepare: Callable[[Session], None]
) -> None:
    """If a row's key finds several rows, all are updated and counted, and another row that finds
    none is missing.
    """
    prepare(session)
    done = bulk_update(session, Counted, ROWS, key="name", returning=returning)
    assert (done.updated, done.unchanged, done.missing) == (9, 0, (1,))
    assert set(session.scalars(select(Counted.change))) == {7}
    for found in (done.ids, done.objects):
        if found:
            assert found[0] is not None
            assert found[1] is None


def test_rows_of_which_some_fit(session: Session) -> None:
    """Of the rows that one key finds, those for which ``where`` is false count as unchanged."""
    for returning in (None, "ids"):
        done = bulk_update(
            session,
            Counted,
            ROWS,
            key="name",
            where=Counted.id > 6,
            returning=returning,  # type: ignore[arg-type]  # one of the two
        )
        assert (done.updated, done.unchanged, done.missing) == (3, 6, (1,))


def test_rows_of_several_tables(session: Session) -> None:
    """The same holds for a class of several tables."""
    rows = [{"wings": 0, "song": "even"}, {"wings": 1, "song": "odd"}]
    for returning in (None, "ids"):
        done = bulk_update(session, Bird, rows, key="wings", returning=returning)  # type: ignore[arg-type]  # as above
        assert (done.updated, done.unchanged, done.missing) == (6, 0, ())
    assert sorted(session.scalars(select(Bird.song))) == ["even"] * 3 + ["odd"] * 3
