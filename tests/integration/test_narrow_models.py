"""A model that declares Integer for a bigint column whose ids are beyond 2**31. Plain SQLAlchemy
leaves the key to the column's default, and works.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import BigInteger, Engine, ForeignKey, Integer, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import FlushReport, assign_ids, bulk_insert, register, reserve_ids
from sqla_seqreserve.testing import record_statements

FIRST = 2**40


class Base(DeclarativeBase):
    pass


class Narrow(Base):
    __tablename__ = "narrow"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(default="n")
    items: Mapped[list[Item]] = relationship(back_populates="narrow")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    narrow_id: Mapped[int] = mapped_column(
        ForeignKey("narrow.id", use_alter=True), type_=BigInteger
    )
    narrow: Mapped[Narrow] = relationship(back_populates="items")


@pytest.fixture
def narrow(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Tables whose sequences start beyond 2**31; optionally they have that minimum too, as on a
    worker of Citus.
    """
    bounds = f"MINVALUE {FIRST}" if getattr(request, "param", False) else ""
    with engine.begin() as connection:
        for table, more in (("narrow", "name text"), ("item", "narrow_id bigint")):
            connection.execute(text(f"CREATE SEQUENCE {table}_id_seq {bounds} START {FIRST}"))
            connection.execute(
                text(
                    f"CREATE TABLE {table} (id bigint PRIMARY KEY "
                    f"DEFAULT nextval('{table}_id_seq'), {more})"
                )
            )
    yield engine


both = pytest.mark.parametrize("narrow", [False, True], indirect=True, ids=["counted", "begun"])


@both
@pytest.mark.parametrize("reserve", ["auto", "always"])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_a_flush_writes_them(narrow: Engine, rows: int, reserve: str) -> None:
    """Parents and children are saved, few or many, and their keys are those of the database."""
    reports: list[FlushReport] = []
    with Session(narrow) as session:
        register(session, reserve=reserve).on_flush(reports.append)
        for _ in range(2):
            session.add_all(Narrow(items=[Item(), Item()]) for _ in range(rows))
            session.commit()
        assert session.scalar(select(func.count()).select_from(Item).join(Narrow)) == 4 * rows
        assert session.scalar(select(func.min(Narrow.id))) >= FIRST


@both
def test_ids_are_not_taken_in_vain(narrow: Engine) -> None:
    """Once ids are known not to fit the model's type, a flush reserves no ids."""
    with Session(narrow) as session:
        register(session, reserve="always")
        session.add_all(Narrow() for _ in range(100))
        session.commit()
        before = session.scalar(text("SELECT last_value FROM narrow_id_seq"))
        with record_statements(narrow) as statements:
            session.add_all(Narrow() for _ in range(100))
            session.commit()
        assert not any("generate_series" in statement.sql for statement in statements)
        assert session.scalar(text("SELECT last_value FROM narrow_id_seq")) == before + 100


@both
def test_bulk_insert_writes_them(narrow: Engine) -> None:
    """bulk_insert lets the database number the rows and returns their keys; reserve_ids and
    assign_ids give ids of the column's range.
    """
    with Session(narrow) as session:
        ids = bulk_insert(session, Narrow, [{"name": str(n)} for n in range(200)])
        assert min(ids) >= FIRST
        assert set(session.scalars(select(Narrow.id))) == set(ids)
        assert min(reserve_ids(session, Narrow, 3)) > FIRST
        found = bulk_insert(session, Narrow, [{"name": func.lower("A")}], returning="objects")
        assert found[0].id > FIRST
        one = Narrow()
        assign_ids(session, [one])
        assert one.id > FIRST


@both
def test_explain_says_what_to_do(narrow: Engine) -> None:
    """If the model's type is too narrow, explain() names the sequence and the type to declare."""
    with Session(narrow) as session:
        registration = register(session, reserve="always")
        session.add_all(Narrow() for _ in range(100))
        session.commit()
        [found] = registration.explain(narrow, [Narrow])
    assert found.path == "orm"
    assert found.reason == (
        "no id is reserved: ids of public.narrow_id_seq are beyond the type of id in the model"
    )
    assert found.remedy == "declare id as BigInteger"
