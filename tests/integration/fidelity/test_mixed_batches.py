"""Batches of many kinds of rows, grouped for COPY: where their order matters, it is kept."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import Engine, ForeignKey, Integer, TypeDecorator, func, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import FlushReport, register


class Base(DeclarativeBase):
    pass


turns = itertools.count()


class Wide(Base):
    __tablename__ = "wide"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(default=5)
    state: Mapped[str | None] = mapped_column(server_default="new")
    mood: Mapped[str | None] = mapped_column(server_default="calm")
    others: Mapped[list[Other]] = relationship(back_populates="wide")


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    wide_id: Mapped[int | None] = mapped_column(ForeignKey("wide.id"))
    wide: Mapped[Wide | None] = relationship(back_populates="others")


class Linked(Base):
    """Refers to rows of its own table by a plain foreign key, without a relationship."""

    __tablename__ = "linked"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    before_id: Mapped[int | None] = mapped_column(ForeignKey("linked.id"))


class Counted(Base):
    """Like Linked, with a default that counts its calls."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str | None] = mapped_column(server_default="new")
    turn: Mapped[int | None] = mapped_column(default=lambda: next(turns))
    before_id: Mapped[int | None] = mapped_column(ForeignKey("counted.id"))


class Doubled(TypeDecorator[int]):
    """Stored as twice the value."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> int | None:
        return None if value is None else value * 2


class Processed(Base):
    """Columns that rows leave out, before and after one with processed values."""

    __tablename__ = "processed"
    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str | None] = mapped_column(server_default="a")
    second: Mapped[int | None] = mapped_column(server_default="2")
    flag: Mapped[bool]
    amount: Mapped[int] = mapped_column(Doubled)
    third: Mapped[str | None] = mapped_column(server_default="c")


class Audited(Base):
    __tablename__ = "audited"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    state: Mapped[str | None] = mapped_column(server_default="new")


AUDIT = (
    "CREATE TABLE audit (position serial, line text)",
    """CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit (line) VALUES (NEW.name || NEW.state); RETURN NULL; END $$""",
    "CREATE TRIGGER audit AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audit()",
)


def different_column_sets(session: Session) -> None:
    seeded = random.Random(20240501)
    for i in range(60):
        given: dict[str, Any] = {"name": f"w{i}", "size": i, "state": "s", "mood": "m"}
        session.add(Wide(**{key: given[key] for key in given if seeded.random() < 0.5}))
    session.flush()


def explicit_none(session: Session) -> None:
    for values in ({}, {"name": None}, {"size": None}, {"state": None}, {"mood": None}):
        session.add_all([Wide(**values) for _ in range(3)])
    session.flush()


def some_ids_preset(session: Session) -> None:
    for i in range(20):
        session.add(Wide(id=1000 - i if i % 3 == 0 else None, name=f"w{i}"))
    session.flush()


def all_ids_preset(session: Session) -> None:
    session.add_all([Wide(id=500 - i, name=f"w{i}") for i in range(20)])
    session.flush()


def classes_interleaved(session: Session) -> None:
    for i in range(20):
        wide = Wide(name=f"w{i}", state="own" if i % 4 == 0 else None)
        session.add_all([Other(name=f"o{i}"), wide, Other(name=f"p{i}", wide=wide)])
    session.flush()


def changed_and_new_together(session: Session) -> None:
    old = [Wide(name=f"w{i}") for i in range(10)]
    session.add_all(old)
    session.commit()
    for item in old[::2]:
        item.name = "changed"
    session.add_all([Wide(name=f"n{i}") for i in range(10)])
    session.flush()


BY_COPY: list[tuple[Scenario, tuple[type[Any], ...]]] = [
    (different_column_sets, (Wide,)),
    (explicit_none, (Wide,)),
    (some_ids_preset, (Wide,)),
    (all_ids_preset, (Wide,)),
    (classes_interleaved, (Wide, Other)),
    (changed_and_new_together, (Wide,)),
]


@pytest.mark.parametrize(
    ("scenario", "models"), BY_COPY, ids=[scenario.__name__ for scenario, _ in BY_COPY]
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, scenario: Scenario, models: tuple[type[Any], ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    assert written(twins.compare(Base, scenario)) == by_copy(*models)


def test_sql_expressions_among_values(twins: Twins) -> None:
    """Objects with an SQL expression go by INSERT, with the reason; the others by COPY."""

    def scenario(session: Session) -> Any:
        items = [
            Wide(name=func.upper(f"w{i}") if i % 3 == 0 else f"w{i}", state="s") for i in range(12)
        ]
        session.add_all(items)
        session.flush()
        return [item.name for item in items]

    assert written(twins.compare(Base, scenario)) == {
        ("Wide", "copy", None),
        ("Wide", "orm", "name is an SQL expression"),
    }


def test_a_subquery_that_sees_rows_written_before_it(twins: Twins) -> None:
    """If an SQL expression of one class reads the table of another class, it sees the rows that the
    flush wrote before, as in plain SQLAlchemy.
    """

    def scenario(session: Session) -> Any:
        session.add_all([Wide(name=f"w{i}") for i in range(9)])
        counted = select(func.count().cast(literal("").type)).select_from(Wide).scalar_subquery()
        other = Other(name=counted, wide=None)
        session.add(other)
        session.flush()
        return other.name

    outcome = twins.compare(Base, scenario)
    assert outcome.returned == ("str", "'9'")


def test_rows_that_refer_to_earlier_rows_keep_their_order(twins: Twins) -> None:
    """Rows of several kinds in a table that refers to itself are not regrouped: each run of one
    kind is one COPY.
    """

    def scenario(session: Session) -> None:
        for i in range(1, 13):
            values = {"state": "own"} if i % 2 else {}
            before = None if i == 1 else i - 1
            session.add(Linked(id=i, name=f"l{i}", before_id=before, **values))
        session.flush()

    assert written(twins.compare(Base, scenario)) == by_copy(Linked)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, {("insert", "few rows of their kind")}),
        (4, {("insert", "few rows of their kind")}),
        (10, {("copy", None)}),
    ],
)
def test_short_runs_are_not_worth_a_copy_each(
    engine: Engine, length: int, expected: set[tuple[str, str | None]]
) -> None:
    """If rows must keep their order, COPY writes runs of one kind that are long enough, and INSERT
    the shorter ones; a default is called once per row, in the rows' order, in both.
    """
    Base.metadata.create_all(engine)
    reports: list[FlushReport] = []
    with Session(engine) as session:
        register(session, copy_min_rows=8).on_flush(reports.append)
        first = next(turns)
        for i in range(1, 401):
            values = {"state": "own"} if (i - 1) // length % 2 else {}
            session.add(Counted(id=i, before_id=i - 1 or None, **values))
        session.commit()
        assert {(entry.writer, entry.reason) for entry in reports[0].entries} == expected
        found = session.scalars(select(Counted.turn).order_by(Counted.id)).all()
        assert list(found) == list(range(first + 1, first + 401))
        states = session.scalars(select(Counted.state).order_by(Counted.id)).all()
        assert states == ["own" if (i - 1) // length % 2 else "new" for i in range(1, 401)]


def test_one_kind_of_rows_may_refer_to_each_other(twins: Twins) -> None:
    """Rows of one kind that refer to earlier rows of the same table go by one COPY."""

    def scenario(session: Session) -> None:
        session.add_all(
            [Linked(id=i, name=f"l{i}", before_id=i - 1 or None, state="s") for i in range(1, 13)]
        )
        session.flush()

    assert written(twins.compare(Base, scenario)) == by_copy(Linked)


def test_a_trigger_sees_the_rows_in_the_order_of_add(twins: Twins) -> None:
    """If a table has a row trigger, rows of several kinds are not regrouped: the trigger sees them
    in the order of add().
    """

    def scenario(session: Session) -> None:
        for i in range(12):
            session.add(Audited(name=f"a{i}", **({"state": "own"} if i % 3 == 0 else {})))
        session.flush()

    twins.compare(Base, scenario, ddl=AUDIT)


def test_a_trigger_watches_one_kind_of_rows(twins: Twins) -> None:
    """Row triggers fire for rows of COPY as for rows of INSERT."""

    def scenario(session: Session) -> None:
        session.add_all([Audited(name=f"a{i}") for i in range(12)])
        session.flush()

    outcome = twins.compare(Base, scenario, ddl=AUDIT)
    assert written(outcome) == by_copy(Audited)
    assert len(outcome.rows["public.audit"]) == 12


def test_what_is_known_of_one_column_is_not_taken_for_another(twins: Twins) -> None:
    """Columns that no row gives free memory, which the values of other columns may reuse; what is
    known of one column's values is not applied to another's.
    """

    def scenario(session: Session) -> Any:
        session.add_all([Wide(name=f"w{i}") for i in range(500)])
        session.add_all([Processed(flag=i % 2 == 0, amount=i) for i in range(500)])
        session.flush()
        return session.scalar(select(func.sum(Processed.amount)))

    outcome = twins.compare(Base, scenario)
    assert written(outcome) == by_copy(Wide, Processed)
