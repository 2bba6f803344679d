"""Least privilege: a role that may save with plain SQLAlchemy may do so in a registered session,
and anything else stays refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fixtures.least_role import ROLE
from fixtures.least_role import role as role
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import Identity, text
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register

pytestmark = pytest.mark.usefixtures("role")


class Base(DeclarativeBase):
    pass


class Identified(Base):
    __tablename__ = "identified"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


class Serial(Base):
    __tablename__ = "serial"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


class Declared(Base):
    __tablename__ = "declared"
    id: Mapped[int] = mapped_column(DatabaseSequence("declared_seq"), primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


def saving(model: type[Any], *, warm: bool, keys: bool = False) -> Any:
    """A trial that saves as the role: on an engine with which the owner of the tables saved before,
    or on a new one.
    """
    table = model.__tablename__

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            # An INSERT of objects names every column, and so does one of mappings that give every
            # column.
            rows: list[dict[str, Any]] = [
                {"name": f"n{i}", "note": "x", **({"id": 1000 + i} if keys else {})}
                for i in range(side.way.rows)
            ]
            try:
                given = side.write(session, model, rows)
                session.execute(text("RESET ROLE"))
                found = [
                    session.scalar(text(f"SELECT name FROM {table} WHERE id = :id"), {"id": key})
                    for key in given
                ]
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            return found

        def save_as_role(session: Session) -> Any:
            session.execute(text(f"SET LOCAL ROLE {ROLE}"))
            return save(session)

        if warm:
            keys_before = side.run(save)
            assert None not in keys_before
            side.execute(f"DELETE FROM {table}")
        return side.run(save_as_role), side.rows(f"SELECT name FROM {table} ORDER BY id")

    return trial


def granted(*grants: str) -> Sequence[str]:
    return (f"GRANT USAGE ON SCHEMA public TO {ROLE}", *(f"GRANT {g} TO {ROLE}" for g in grants))


def grants_on(table: str) -> dict[str, Sequence[str]]:
    sequence = "declared_seq" if table == "declared" else f"{table}_id_seq"
    return {
        "whole table": granted(f"INSERT, SELECT ON {table}"),
        "whole table, select of key": granted(f"INSERT, SELECT (id) ON {table}"),
        "columns": granted(f"INSERT (name), SELECT (id) ON {table}"),
        "columns and key": granted(f"INSERT (id, name), SELECT (id) ON {table}"),
        "columns and note": granted(f"INSERT (name, note), SELECT (id) ON {table}"),
        "columns, note and key": granted(f"INSERT (id, name, note), SELECT (id) ON {table}"),
        "insert alone": granted(f"INSERT ON {table}"),
        "select alone": granted(f"SELECT ON {table}"),
        "usage": granted(f"INSERT, SELECT ON {table}", f"USAGE ON SEQUENCE {sequence}"),
        "update of the sequence": granted(
            f"INSERT, SELECT ON {table}", f"UPDATE ON SEQUENCE {sequence}"
        ),
        "select of the sequence": granted(
            f"INSERT, SELECT ON {table}", f"SELECT ON SEQUENCE {sequence}"
        ),
        "columns and usage": granted(
            f"INSERT (id, name, note), SELECT (id) ON {table}", f"USAGE ON SEQUENCE {sequence}"
        ),
    }


FEW, COPY, RESERVE, MAPPINGS = WAYS[1], WAYS[3], WAYS[5], WAYS[6]
GRANTS = list(grants_on(""))
SELECTION = ["whole table", "columns, note and key", "select of the sequence"]


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", GRANTS)
def test_an_identity_needs_no_right_on_its_sequence(
    twin_urls: tuple[str, str], grant: str, way: Way
) -> None:
    """An identity needs no privilege on its sequence, as with PostgreSQL's own INSERT."""
    ddl = grants_on("identified")[grant]
    both(twin_urls, Base, saving(Identified, warm=True), way=way, ddl=ddl)


@pytest.mark.parametrize("way", [FEW, COPY, RESERVE, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", SELECTION)
def test_an_engine_that_knows_nothing_yet(twin_urls: tuple[str, str], grant: str, way: Way) -> None:
    """A role may save the same, whether or not another role has used the engine before."""
    ddl = grants_on("identified")[grant]
    both(twin_urls, Base, saving(Identified, warm=False), way=way, ddl=ddl)


@pytest.mark.parametrize("way", [FEW, COPY, RESERVE, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", SELECTION)
def test_always_identity(twin_urls: tuple[str, str], grant: str, way: Way) -> None:
    """GENERATED ALWAYS, for which only COPY can give keys, needs no other privilege, either."""
    both(twin_urls, Base, saving(Always, warm=True), way=way, ddl=grants_on("always")[grant])


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", [*SELECTION, "usage", "update of the sequence"])
@pytest.mark.parametrize("model", [Serial, Declared])
def test_another_sequence_is_refused_as_in_plain(
    twin_urls: tuple[str, str], model: type[Any], grant: str, way: Way
) -> None:
    """If plain SQLAlchemy's INSERT lacks a privilege on the sequence, the error is the same."""
    ddl = grants_on(model.__tablename__)[grant]
    both(twin_urls, Base, saving(model, warm=True), way=way, ddl=ddl)


@pytest.mark.parametrize("way", [COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", GRANTS)
def test_rows_that_give_their_keys(twin_urls: tuple[str, str], grant: str, way: Way) -> None:
    """Rows that give their keys need no privilege on a sequence, and otherwise those of plain
    SQLAlchemy.
    """
    ddl = grants_on("identified")[grant]
    both(twin_urls, Base, saving(Identified, warm=False, keys=True), way=way, ddl=ddl)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("grant", ["whole table", "columns, note and key"])
def test_other_drivers(twin_urls: tuple[str, str], grant: str, way: Way, driver: str) -> None:
    """Privileges have the same effect on every driver."""
    ddl = grants_on("identified")[grant]
    both(twin_urls, Base, saving(Identified, warm=True), way=way, ddl=ddl, driver=driver)


def test_explain_says_which_right_lacks(twin_urls: tuple[str, str]) -> None:
    """If no id is reserved because the role lacks a privilege, explain() names it."""

    def trial(side: Side) -> Any:
        def ask(session: Session) -> Any:
            registration = register(session)
            connection = session.connection()
            connection.execute(text(f"SET LOCAL ROLE {ROLE}"))
            [explanation] = registration.explain(connection, [Identified])
            return explanation.reason

        return side.run(ask) if side.registered else None

    urls = (twin_urls[1], twin_urls[1])
    with pytest.raises(AssertionError) as differs:
        both(urls, Base, trial, ddl=granted("INSERT, SELECT ON identified"))
    assert "privilege" in str(differs.value)
    assert "identified_id_seq" in str(differs.value)
