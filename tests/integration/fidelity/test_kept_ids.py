"""``prefetch``: ids kept ahead are not handed out once a repair has moved past them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import repair_sequences

KEEPING = Way("kept ids", {"prefetch": 50}, rows=3)
KEEPING_AND_COPYING = Way("kept ids and COPY", {"prefetch": 50, "copy_min_rows": 1}, rows=3)


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entry"
    # Named, so that ids are kept on every PostgreSQL.
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
    """setval outlives a rollback, so kept ids are as invalid as after a commit."""

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
    """The way that these tests write keeps ids at all: a second save asks for none."""

    def trial(side: Side) -> Any:
        save(side)
        [(first,)] = side.rows("SELECT last_value FROM entry_id_seq")
        save(side)
        [(second,)] = side.rows("SELECT last_value FROM entry_id_seq")
        return first == second if side.registered else True

    assert both(twin_urls, Base, trial, way=KEEPING)
