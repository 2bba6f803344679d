"""If an error names no row, a note names the values that their columns do not take."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way
from sqlalchemy import BigInteger, Engine, Identity, String
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_delete, bulk_insert, bulk_sync, bulk_update, bulk_upsert


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    code: Mapped[str] = mapped_column("payment_code", String(8))
    pieces: Mapped[int | None]
    token: Mapped[uuid.UUID | None]


BAD = {
    "object": ({"code": object()}, "code is of type object, expected str"),
    "text": ({"pieces": "many"}, "pieces is of type str, expected int"),
    "large": ({"pieces": 2**31}, "pieces is beyond 32 bits"),
    "uuid": ({"token": "no token"}, "token is of type str, expected UUID"),
}


def flushed(session: Session, rows: list[dict[str, Any]]) -> None:
    session.add_all(Payment(**row) for row in rows)
    session.flush()


def changed(session: Session, rows: list[dict[str, Any]]) -> None:
    items = [Payment(code="a") for _ in rows]
    session.add_all(items)
    session.commit()
    for item, row in zip(items, rows, strict=True):
        item.code, item.pieces, item.token = row["code"], row.get("pieces"), row.get("token")
    session.flush()


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": number, **row} for number, row in enumerate(rows, 1)]


WRITES: dict[str, Callable[[Session, list[dict[str, Any]]], object]] = {
    "object": flushed,
    "changed": changed,
    "insert": lambda session, rows: bulk_insert(session, Payment, rows),
    "upsert": lambda session, rows: bulk_upsert(session, Payment, numbered(rows), conflict="id"),
    "update": lambda session, rows: bulk_update(session, Payment, numbered(rows)),
    "sync": lambda session, rows: bulk_sync(
        session, Payment, numbered(rows), key="id", scope=Payment.id > 0
    ),
}


@pytest.fixture
def side(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Side]:
    Base.metadata.create_all(engine)
    side = Side(engine.url, Way("ours"), registered=True, driver=request.param)
    yield side
    side.close()


@pytest.mark.parametrize("side", DRIVERS, indirect=True)
@pytest.mark.parametrize("rows", [12, 1200])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("write", WRITES)
def test_the_note_names_the_value(
    side: Side, write: str, bad: tuple[dict[str, Any], str], rows: int
) -> None:
    """The note says which row or object holds the value, what it is and what was expected."""
    values, problem = bad
    given: list[dict[str, Any]] = [{"code": "a"} for _ in range(rows)]
    for row in given:
        row.update(dict.fromkeys(values, "a" if "code" in values else None))
    given[7] = {**given[7], **values}

    def refused(session: Session) -> str:
        with pytest.raises(StatementError) as caught:
            WRITES[write](session, given)
        [note] = getattr(caught.value, "__notes__", [])
        return str(note)

    note = side.run(refused)
    if note.startswith("The database refused "):
        # PostgreSQL says which line of a COPY it is about.
        assert " 7 " in note
        assert write in {"object", "insert"} or rows > 12
        assert "token" in values
        return
    assert note.startswith("The database may have refused ")
    assert ("Payment" if write in {"object", "changed"} else "row") in note
    assert f" 7: {problem}" in note
    assert ";" not in note


@pytest.mark.parametrize("side", DRIVERS, indirect=True)
def test_keys_of_rows_to_delete(side: Side) -> None:
    """A key that its column does not take is named, too, and of many only the first few."""

    def refused(session: Session) -> str:
        with pytest.raises(StatementError) as caught:
            bulk_delete(session, Payment, [1, 2, *("x" for _ in range(20))])
        [note] = caught.value.__notes__
        return str(note)

    note = side.run(refused)
    assert note.startswith("The database may have refused row 2: id is of type str, expected int; ")
    assert note.endswith("; and 15 more")


@pytest.mark.parametrize("side", DRIVERS, indirect=True)
def test_an_error_about_a_constraint(side: Side) -> None:
    """An error that is about no value's type names no such values, though there are some."""

    def refused(session: Session) -> None:
        payments = [Payment(id=number, code="a") for number in (1, 2, 3)]
        session.add_all(payments)
        session.commit()
        session.expunge_all()
        session.add_all(Payment(id=number, code="a", pieces=2.0) for number in (3, 4, 5))
        with pytest.raises(StatementError) as caught:
            session.flush()
        assert all("may have" not in note for note in getattr(caught.value, "__notes__", ()))

    side.run(refused)
