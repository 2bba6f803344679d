"""Keys that server defaults give, in several types, by a flush, reserve_ids and assign_ids."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fixtures.bulk_keys import (
    DRIVERS,
    ByFunction,
    ByIdentity,
    ByNumber,
    ByServerUuid,
    ByUuidText,
    OnDriver,
    TwoEvaluated,
    TwoGenerated,
)
from fixtures.bulk_keys import Base as Kinds
from sqlalchemy import Engine, ForeignKey, func, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import FlushReport, assign_ids, register, reserve_ids
from sqla_seqreserve.testing import record_statements

EVALUATED: dict[type[Any], Any] = {
    ByServerUuid: uuid.UUID,
    ByUuidText: str,
    ByFunction: str,
    ByNumber: int,
    TwoGenerated: (int, uuid.UUID),
    TwoEvaluated: (str, uuid.UUID),
}
"""Class -> the type of its key, or of each column of the key."""


def kind_of(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(kind_of, value))
    # asyncpg has a UUID class of its own, a subclass of Python's.
    return uuid.UUID if isinstance(value, uuid.UUID) else type(value)


def identity_of(item: Any) -> Any:
    key = item._sa_instance_state.key[1]
    return key[0] if len(key) == 1 else tuple(key)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_flush_writes_them_by_copy(on_driver: OnDriver[None], driver: str) -> None:
    """A flush reserves the keys of all objects, also of those numbered by a sequence, writes the
    rows by COPY, and each object has the key of its row.
    """

    def scenario(session: Session) -> None:
        reports: list[FlushReport] = []
        register(session, copy_min_rows=1).on_flush(reports.append)
        items = [model(tag=f"t{n}") for n in range(20) for model in (*EVALUATED, ByIdentity)]
        session.add_all(items)
        session.flush()
        [report] = reports
        assert {(entry.writer, entry.rows, entry.reserved) for entry in report.entries} == {
            ("copy", 20, 20)
        }
        for model, kind in EVALUATED.items():
            mine = [item for item in items if type(item) is model]
            assert {kind_of(identity_of(item)) for item in mine} == {kind}, model
        tags = {id(item): item.tag for item in items}
        session.expire_all()
        for item in items:
            assert (item.tag, item.state) == (tags[id(item)], "new")

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
def test_reserved_and_assigned_keys_are_what_the_key_is(
    on_driver: OnDriver[None], driver: str
) -> None:
    """reserve_ids gives values of the model's type, or tuples if several columns are generated;
    assign_ids sets only the key columns that are not set.
    """

    def scenario(session: Session) -> None:
        ids = reserve_ids(session, dict.fromkeys(EVALUATED, 5))
        for model, kind in EVALUATED.items():
            assert len(set(ids[model])) == 5
            assert {kind_of(value) for value in ids[model]} == {kind}
        given = uuid.uuid4()
        mine, none = TwoGenerated(token=given, tag="m"), TwoGenerated(tag="n")
        other = ByServerUuid(tag="o")
        assign_ids(session, [mine, none, other])
        assert mine.token == given
        assert None not in {mine.number, none.number, none.token, other.id}
        keys = [(mine.number, mine.token), (none.number, none.token)]
        session.add_all([mine, none, other])
        session.flush()
        assert [identity_of(mine), identity_of(none)] == keys

    on_driver(driver, scenario)


def test_one_statement_reserves_all(engine: Engine) -> None:
    """One statement takes values of defaults and of sequences; if only sequences are asked for, it
    contains nothing for defaults.
    """
    Kinds.metadata.create_all(engine)
    models = dict.fromkeys([*EVALUATED, ByIdentity], 3)
    with Session(engine) as session:
        reserve_ids(session, models)
        with record_statements(engine) as statements:
            reserve_ids(session, models)
        assert len(statements) == 1
        with record_statements(engine) as statements:
            reserve_ids(session, ByIdentity, 3)
    [statement] = statements
    assert "held" not in statement.sql
    assert "CASE" not in statement.sql


def test_a_failed_flush_takes_off_what_it_gave(engine: Engine) -> None:
    """After a failed flush a key column that the user set keeps its value, and the generated values
    are removed.
    """
    Kinds.metadata.create_all(engine)
    given = uuid.uuid4()
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        items = [TwoGenerated(tag="a", token=given), TwoGenerated(tag="b"), ByIdentity(tag="c")]
        items.append(ByFunction(tag="x", state=func.no_such_function()))
        session.add_all(items)
        with pytest.raises(ProgrammingError):
            session.flush()
        session.rollback()
        assert (items[0].token, items[0].number) == (given, None)
        assert (items[1].token, items[1].number) == (None, None)
        assert items[3].code is None


def test_a_shared_default_follows_the_order_of_add(engine: Engine) -> None:
    """Objects of several classes of one table get values of the key's default in the order of
    add().
    """
    Kinds.metadata.create_all(engine)

    class First(ByNumber):
        pass

    with Session(engine) as session:
        register(session, copy_min_rows=1)
        items = [(First if number % 3 else ByNumber)(tag=str(number)) for number in range(12)]
        session.add_all(items)
        session.flush()
        assert [item.id for item in items] == sorted(item.id for item in items)


class Base(DeclarativeBase):
    pass


class Chained(Base):
    __tablename__ = "chained"
    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, server_default=text("gen_random_uuid()")
    )
    before_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("chained.id"))
    before: Mapped[Chained | None] = relationship(remote_side=id)


def test_a_chain_is_written_at_once(engine: Engine) -> None:
    """A chain of 100 objects that refer to each other is written in at most four statements,
    because the keys are known before.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session)
        session.add(Chained())
        session.commit()
        last: Chained | None = None
        for _ in range(100):
            last = Chained(before=last)
        session.add(last)
        with record_statements(engine) as statements:
            session.flush()
        assert len(statements) <= 4
        session.expire_all()
        length = 0
        while last is not None:
            last, length = last.before, length + 1
        assert length == 100
