"""``prefetch``: kept ids are not used after a repair or a restart has moved their sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.least_role import EVERYTHING, ROLE
from fixtures.least_role import role as role
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import Sequence, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import repair_sequences

KEEPING = Way("kept ids", {"prefetch": 50, "reserve": "always"}, rows=3)
KEEPING_AND_COPYING = Way("kept ids and COPY", {"prefetch": 50, "copy_min_rows": 1}, rows=3)


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entry"
    # With a schema in its name, ids are kept on every version of PostgreSQL.
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


def save(side: Side) -> Any:
    def saving(session: Session) -> Any:
        try:
            keys = side.write(session, Entry, [{"name": "n"}] * side.way.rows)
            session.commit()
        except SQLAlchemyError as error:
            session.rollback()
            return refusal(error)
        return len(keys)

    return side.run(saving)


@pytest.mark.parametrize("way", [KEEPING, KEEPING_AND_COPYING], ids=str)
@pytest.mark.parametrize("through", ["the same engine", "another engine", "the same session"])
def test_a_repair_makes_kept_ids_invalid(
    twin_urls: tuple[str, str], way: Way, through: str
) -> None:
    """After an import with explicit ids and a repair in this process, no save collides."""

    def trial(side: Side) -> Any:
        before = save(side)
        side.execute(
            "INSERT INTO entry (id, name) SELECT g, 'imported'"
            " FROM generate_series((SELECT max(id) FROM entry) + 1, 500) g"
        )
        if through == "another engine":
            with side.beside() as connection:
                repair_sequences(connection, Base)
                connection.commit()
        elif through == "the same engine":

            def repairing(session: Session) -> None:
                repair_sequences(session, Base)
                session.commit()

            side.run(repairing)
        else:

            def all_in_one(session: Session) -> Any:
                repair_sequences(session, Base)
                side.write(session, Entry, [{"name": "n"}] * side.way.rows)
                session.commit()

            try:
                side.run(all_in_one)
            except SQLAlchemyError as error:
                return refusal(error)
        return before, save(side), save(side)

    both(twin_urls, Base, trial, way=way)


def test_a_repair_that_is_rolled_back_harms_nothing(twin_urls: tuple[str, str]) -> None:
    """After a repair that is rolled back kept ids are discarded as after a commit, because setval
    is not undone.
    """

    def trial(side: Side) -> Any:
        before = save(side)
        side.execute("INSERT INTO entry (id, name) SELECT g, 'x' FROM generate_series(4, 500) g")

        def repairing(session: Session) -> None:
            repair_sequences(session, Base)
            session.rollback()

        side.run(repairing)
        return before, save(side), side.rows("SELECT count(*) FROM entry WHERE name = 'n'")

    both(twin_urls, Base, trial, way=KEEPING)


def test_kept_ids_were_kept(twin_urls: tuple[str, str]) -> None:
    """These tests do keep ids ahead: a second save takes none from the sequence."""

    def trial(side: Side) -> Any:
        save(side)
        [(first,)] = side.rows("SELECT last_value FROM entry_id_seq")
        save(side)
        [(second,)] = side.rows("SELECT last_value FROM entry_id_seq")
        return first == second if side.registered else True

    assert both(twin_urls, Base, trial, way=KEEPING)


RESTARTS = (
    "TRUNCATE entry RESTART IDENTITY",
    "TRUNCATE entry; ALTER SEQUENCE entry_id_seq RESTART WITH 100",
    "DELETE FROM entry; ALTER SEQUENCE entry_id_seq RESTART",
)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [KEEPING, KEEPING_AND_COPYING], ids=str)
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("inside", [False, True], ids=["between", "in the transaction"])
def test_a_sequence_that_was_restarted(
    twin_urls: tuple[str, str], way: Way, driver: str, restart: str, inside: bool
) -> None:
    """Ids that were kept before a restart of the sequence are discarded, so that no id is used
    twice.
    """

    def trial(side: Side) -> Any:
        before = save(side)

        def restarting(session: Session) -> None:
            for statement in restart.split("; "):
                session.execute(text(statement))
            side.write(session, Entry, [{"name": "n"}] * way.rows)
            session.commit()

        if inside:
            side.run(restarting)
        else:
            side.execute(*restart.split("; "))
        after = save(side)
        side.execute("INSERT INTO entry (name) SELECT 'beside' FROM generate_series(1, 200)")
        return before, after, side.rows("SELECT min(id), count(*) FROM entry")

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("way", [KEEPING, KEEPING_AND_COPYING], ids=str)
def test_a_restart_that_is_rolled_back(twin_urls: tuple[str, str], way: Way) -> None:
    """After a restart that is rolled back no id is used twice."""

    def trial(side: Side) -> Any:
        before = save(side)

        def restarting(session: Session) -> None:
            session.execute(text("TRUNCATE entry RESTART IDENTITY"))
            side.write(session, Entry, [{"name": "n"}] * way.rows)
            session.rollback()

        side.run(restarting)
        after = save(side)
        side.execute("INSERT INTO entry (name) SELECT 'beside' FROM generate_series(1, 200)")
        return before, after, side.rows("SELECT min(id), count(*) FROM entry")

    both(twin_urls, Base, trial, way=way)


ROW_SECURITY = (
    *EVERYTHING,
    "ALTER TABLE entry ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everything ON entry USING (true)",
)


class Pair(Base):
    """A key whose two columns each have a sequence."""

    __tablename__ = "pair"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    left: Mapped[int] = mapped_column(Sequence("lefts", schema="public"), primary_key=True)
    right: Mapped[int] = mapped_column(Sequence("rights", schema="public"), primary_key=True)


@pytest.mark.parametrize("way", [KEEPING, KEEPING_AND_COPYING], ids=str)
@pytest.mark.parametrize("restarted", ["lefts", "rights"])
def test_one_of_two_sequences_that_was_restarted(
    twin_urls: tuple[str, str], way: Way, restarted: str
) -> None:
    """If a key has two sequences, a restart of either is noticed."""

    def trial(side: Side) -> Any:
        def saving(session: Session) -> None:
            session.add_all([Pair() for _ in range(3)])
            session.commit()

        side.run(saving)
        side.execute(f"ALTER SEQUENCE {restarted} RESTART WITH 1000")
        side.run(saving)
        return side.rows(f'SELECT count(*) FROM pair WHERE "{restarted[:-1]}" >= 1000')

    both(twin_urls, Base, trial, way=way)


@pytest.mark.usefixtures("role")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_restart_beside_row_security(twin_urls: tuple[str, str], driver: str) -> None:
    """A restart is noticed, too, if COPY was chosen and row-level security prevents it."""

    def trial(side: Side) -> Any:
        before = save(side), save(side)
        side.execute("TRUNCATE entry RESTART IDENTITY")
        after = save(side)
        side.execute("INSERT INTO entry (name) SELECT 'beside' FROM generate_series(1, 200)")
        return before, after, side.rows("SELECT min(id), count(*) FROM entry")

    both(
        twin_urls, Base, trial, way=KEEPING_AND_COPYING, driver=driver, ddl=ROW_SECURITY, role=ROLE
    )
