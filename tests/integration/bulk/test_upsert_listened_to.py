"""bulk_upsert with listeners that can see, change or refuse an INSERT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.listeners import (
    EACH_DRIVER,
    Base,
    Node,
    Secret,
    comment,
    execute,
    mask,
    mask_parameters,
    target_of,
)
from fixtures.sides import Side, both
from sqlalchemy import Engine, Insert, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_seqreserve import bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError


@EACH_DRIVER
@pytest.mark.parametrize("listener", [mask, mask_parameters, comment, execute])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_an_upsert_is_the_same_whoever_listens(
    twin_urls: tuple[str, str], rows: int, listener: Callable[[Any], None], driver: str
) -> None:
    """With a listener the same rows are inserted, updated and left unchanged as without one, each
    with its key.
    """
    outcomes = []

    def trial(side: Side) -> None:
        side.execute(
            "INSERT INTO secret (number, word) VALUES (0, 'old'), (1, 'same')",
            "CREATE UNIQUE INDEX partly ON secret (number) WHERE number < 100000",
        )
        if side.registered:
            listener(target_of(side))

        def work(session: Session) -> Any:
            given = [{"number": n, "word": "same" if n == 1 else "hush"} for n in range(rows)]
            where = Secret.word != "same"
            done = bulk_upsert(
                session, Secret, given, conflict=["number"], where=where, returning="ids"
            )
            again = bulk_upsert(session, Secret, given, conflict="partly", update=())
            session.commit()
            found = {
                row.id: row.number for row in session.execute(select(Secret.id, Secret.number))
            }
            counts = [(one.inserted, one.updated, one.unchanged) for one in (done, again)]
            return counts, [found[key] for key in done.ids]

        counts, numbers = side.run(work)
        assert numbers == list(range(rows))
        outcomes.append(counts)
        stored = dict(side.rows("SELECT number, word FROM secret"))
        word = "hush" if listener is comment or not side.registered else "*"
        assert stored == {0: word, 1: "same", **dict.fromkeys(range(2, rows), word)}

    both(twin_urls, Base, trial, driver=driver)
    assert outcomes[0] == outcomes[1]


def test_an_upsert_of_the_same_row_twice_is_refused_whoever_listens(engine: Engine) -> None:
    """Two rows for the same row are refused before anything is written, and a row that a listener
    refuses leaves none of the earlier ones.
    """
    Base.metadata.create_all(engine)
    mask(engine)
    with Session(engine) as session:
        rows = [{"number": n % 2, "word": "a"} for n in range(3)]
        with pytest.raises(InvalidRowsError, match="1 of 3 rows are for a row"):
            bulk_upsert(session, Secret, rows, conflict=["number"])

        @event.listens_for(engine, "before_execute")
        def late(_c: Any, clause: Any, _many: Any, one: Any, _options: Any) -> None:
            if isinstance(clause, Insert) and one.get("number") == 1:
                raise RuntimeError("not this one")

        with pytest.raises(RuntimeError, match="not this one"):
            bulk_upsert(session, Secret, rows[:2], conflict=["number"])
        assert session.scalars(select(Secret)).all() == []


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


def test_an_upsert_says_which_listener_keeps_it_from_a_key_that_is_always_generated(
    engine: Engine,
) -> None:
    """With a listener a key of GENERATED ALWAYS cannot be given, and the error names
    the listener.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE always ALTER id DROP DEFAULT")
        connection.exec_driver_sql("ALTER TABLE always ALTER id ADD GENERATED ALWAYS AS IDENTITY")
    mask(engine)
    with Session(engine) as session, pytest.raises(ConfigurationError, match="before_execute"):
        bulk_upsert(session, Always, [{"id": 1, "number": 1}], conflict=["id"])


def test_an_upsert_that_is_listened_to_locks_rows_in_the_order_of_the_index(engine: Engine) -> None:
    """With a listener rows are locked in the order of the index, so that two upserts of the same
    rows do not deadlock.
    """
    Base.metadata.create_all(engine)
    sent: list[int] = []

    @event.listens_for(engine, "before_execute")
    def sees(_c: Any, clause: Any, _many: Any, one: Any, _options: Any) -> None:
        if isinstance(clause, Insert) and clause.table.name == "secret":
            sent.append(one["number"])

    with Session(engine) as session:
        rows = [{"number": n, "word": "a"} for n in (3, 1, 2)]
        done = bulk_upsert(session, Secret, rows, conflict=["number"], returning="objects")
        assert [item.number for item in done.objects] == [3, 1, 2]
    assert sent == [1, 2, 3]


@pytest.mark.parametrize("rows", [3, 300])
def test_an_upsert_of_a_partitioned_table_counts_whoever_listens(engine: Engine, rows: int) -> None:
    """With a listener new rows of a partitioned table are counted correctly, though it shows no
    xmin.
    """
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE node (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
            "name text NOT NULL, parent_id int) PARTITION BY HASH (id)"
        )
        connection.exec_driver_sql(
            "CREATE TABLE node_1 PARTITION OF node FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        )
        connection.exec_driver_sql("INSERT INTO node VALUES (2, 'old')")
    mask(engine)
    with Session(engine) as session:
        given = [{"id": n + 1, "name": "new"} for n in range(rows)]
        done = bulk_upsert(session, Node, given, conflict=["id"], returning="ids")
        assert (done.inserted, done.updated, done.unchanged) == (rows - 1, 1, 0)
        assert list(done.ids) == list(range(1, rows + 1))
