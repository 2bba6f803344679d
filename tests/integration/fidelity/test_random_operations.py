"""Random graphs and operations on twin databases: the same rows, the same states at each step.

Hypothesis draws lists of operations (add, change, delete, move, merge, flush, commit, nested
transactions and their rollback) and both sides carry them out. The search is derandomized, so that
a run is the same each time; SQLA_SEQRESERVE_SEED draws others, and its value is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import hypothesis
import pytest
from fixtures.twins import Twins, all_rows, differences, empty
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, ForeignKey, Identity, Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from sqla_seqreserve import FlushReport, register

EXAMPLES = int(os.environ.get("SQLA_SEQRESERVE_EXAMPLES", "60"))
SEED = os.environ.get("SQLA_SEQRESERVE_SEED")


class Base(DeclarativeBase):
    pass


labelled = Table(
    "labelled",
    Base.metadata,
    Column("parcel_id", ForeignKey("parcel.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Thing(Base):
    """The base of a joined hierarchy; a tree of itself."""

    __tablename__ = "thing"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "thing"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    tag: Mapped[str]
    size: Mapped[int | None] = mapped_column(default=1)
    state: Mapped[str | None] = mapped_column(server_default="new")
    holder_id: Mapped[int | None] = mapped_column(
        ForeignKey("parcel.id", name="held", use_alter=True)
    )
    holder: Mapped[Parcel | None] = relationship(back_populates="contents", foreign_keys=holder_id)


class Parcel(Thing):
    __tablename__ = "parcel"
    key: Mapped[int] = mapped_column("id", ForeignKey("thing.id"), primary_key=True)
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_identity": "parcel",
        "inherit_condition": key == Thing.id,
    }
    version: Mapped[int] = mapped_column(default=7)
    contents: Mapped[list[Thing]] = relationship(
        back_populates="holder", foreign_keys=Thing.holder_id, order_by=Thing.tag
    )
    labels: Mapped[list[Label]] = relationship(secondary=labelled, order_by="Label.tag")
    slips: Mapped[list[Slip]] = relationship(
        back_populates="parcel", cascade="all, delete-orphan", order_by="Slip.tag"
    )


class Label(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag: Mapped[str]
    size: Mapped[int | None]


class Slip(Base):
    __tablename__ = "slip"
    __mapper_args__: ClassVar[Any] = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    tag: Mapped[str]
    size: Mapped[int | None] = mapped_column(server_default="3")
    parcel_id: Mapped[int] = mapped_column(ForeignKey("parcel.id"))
    parcel: Mapped[Parcel | None] = relationship(back_populates="slips")


MODELS = {"thing": Thing, "parcel": Parcel, "label": Label, "slip": Slip}
numbers = st.integers(0, 30)
operations = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from(["thing", "parcel", "parcel", "label"]),
        st.integers(1, 6),
        st.sampled_from([None, 5, "unset"]),
    ),
    st.tuples(st.just("add with contents"), st.integers(1, 3), st.integers(0, 4)),
    st.tuples(st.just("change"), numbers, st.sampled_from([None, 0, 99])),
    st.tuples(st.just("delete"), numbers),
    st.tuples(st.just("put into"), numbers, numbers),
    st.tuples(st.just("label"), numbers, numbers),
    st.tuples(st.just("slip"), numbers, st.integers(1, 3)),
    st.tuples(st.just("drop slip"), numbers),
    st.tuples(st.just("merge"), numbers),
    st.tuples(st.just("merge new"), st.integers(1, 3)),
    st.tuples(st.just("refuse"), st.integers(1, 3)),
    st.sampled_from([("flush",), ("flush",), ("commit",), ("begin",), ("release",), ("undo",)]),
)


@dataclass
class Player:
    """Carries out operations on one side; objects are known by the order of their making."""

    session: Session
    made: list[Any] = field(default_factory=list)
    savepoints: list[Any] = field(default_factory=list)

    def make(self, model: type[Any], **values: Any) -> Any:
        item = model(tag=f"t{len(self.made)}", **values)
        self.made.append(item)
        return item

    def pick(self, number: int, model: type[Any] = object) -> Any:
        """One of the objects that the session holds, the same on both sides."""
        held = [
            item
            for item in self.made
            if isinstance(item, model) and item in self.session and not inspect(item).deleted
        ]
        return held[number % len(held)] if held else None

    def play(self, operation: tuple[Any, ...]) -> None:
        """Carry out one operation; those that fit nothing do nothing."""
        name, *arguments = operation
        getattr(self, name.replace(" ", "_"))(*arguments)

    def add(self, model: str, count: int, size: Any) -> None:
        values = {} if size == "unset" else {"size": size}
        self.session.add_all([self.make(MODELS[model], **values) for _ in range(count)])

    def add_with_contents(self, count: int, contents: int) -> None:
        for _ in range(count):
            parcel = self.make(Parcel)
            parcel.contents = [self.make(Thing) for _ in range(contents)]
            parcel.slips = [self.make(Slip) for _ in range(contents)]
            self.session.add(parcel)

    def change(self, number: int, size: int | None) -> None:
        item = self.pick(number)
        if item is not None:
            item.size = size

    def delete(self, number: int) -> None:
        item = self.pick(number)
        if item is None:
            return
        if inspect(item).persistent:
            self.session.delete(item)
        else:
            self.session.expunge(item)

    def put_into(self, number: int, holder: int) -> None:
        item, parcel = self.pick(number, Thing), self.pick(holder, Parcel)
        if item is not None and parcel is not None:
            item.holder = parcel

    def label(self, number: int, label: int) -> None:
        parcel, found = self.pick(number, Parcel), self.pick(label, Label)
        if parcel is not None and found is not None and found not in parcel.labels:
            parcel.labels.append(found)

    def slip(self, number: int, count: int) -> None:
        parcel = self.pick(number, Parcel)
        if parcel is not None:
            parcel.slips.extend([self.make(Slip) for _ in range(count)])

    def drop_slip(self, number: int) -> None:
        slip = self.pick(number, Slip)
        if slip is not None and slip.parcel is not None:
            slip.parcel.slips.remove(slip)

    def merge(self, number: int) -> None:
        item = self.pick(number)
        if item is not None and inspect(item).persistent:
            key = inspect(item).identity[0]
            self.session.merge(type(item)(id=key, tag=item.tag, size=42))

    def merge_new(self, count: int) -> None:
        for _ in range(count):
            self.made.append(self.session.merge(Label(tag=f"t{len(self.made)}", size=8)))

    def refuse(self, count: int) -> None:
        """A savepoint whose flush the database refuses."""
        with self.session.begin_nested() as savepoint:
            self.session.add_all([Thing(tag=f"bad{i}", holder_id=-1) for i in range(count)])
            try:
                self.session.flush()
            except SQLAlchemyError:
                savepoint.rollback()

    def flush(self) -> None:
        self.session.flush()

    def commit(self) -> None:
        self.savepoints.clear()
        self.session.commit()

    def begin(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    def release(self) -> None:
        if self.savepoints:
            self.savepoints.pop().commit()

    def undo(self) -> None:
        if self.savepoints:
            self.savepoints.pop().rollback()
        else:
            self.session.rollback()

    def states(self) -> list[Any]:
        """What each object ever made is now; its keys only by whether it has them."""
        found = []
        for item in self.made:
            state: Any = inspect(item)
            values = {
                key: value if key in {"tag", "size", "state", "kind", "version"} else bool(value)
                for key, value in sorted(state.dict.items())
                if key not in {"_sa_instance_state", *state.mapper.relationships.keys()}
            }
            kind = (state.transient, state.pending, state.persistent, state.deleted, state.detached)
            found.append(
                [kind, values, sorted(state.unloaded), state.modified, item in self.session]
            )
        return found


def contents_of(engine: Engine) -> dict[str, list[Any]]:
    """The rows by what they say and refer to, whatever their ids."""
    holder = Thing.__table__.alias()
    thing, slip, label = Thing.__table__.c, Slip.__table__.c, Label.__table__.c
    with engine.connect() as connection:
        queries = {
            "things": select(
                thing.tag, thing.kind, thing.size, thing.state, holder.c.tag
            ).outerjoin(holder, thing.holder_id == holder.c.id),
            "parcels": select(thing.tag, Parcel.__table__.c.version).join(
                Parcel.__table__, Parcel.__table__.c.id == thing.id
            ),
            "labels": select(label.tag, label.size),
            "slips": select(slip.tag, slip.size, thing.tag).join(
                Thing.__table__, slip.parcel_id == thing.id
            ),
            "labelled": select(thing.tag, label.tag)
            .select_from(labelled)
            .join(Thing.__table__, labelled.c.parcel_id == thing.id)
            .join(Label.__table__, labelled.c.label_id == label.id),
        }
        return {
            name: sorted((list(row) for row in connection.execute(query)), key=repr)
            for name, query in queries.items()
        }


@pytest.fixture
def prepared(twins: Twins) -> Iterator[Callable[[], None]]:
    """A function that empties the tables of both databases."""
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.tables.values())
    for engine in (twins.stock, twins.ours):
        empty(engine)
        Base.metadata.create_all(engine)

    def truncate() -> None:
        for engine in (twins.stock, twins.ours):
            with engine.begin() as connection:
                connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")

    return truncate


# Some drawn operations make no sense, and SQLAlchemy says so on both sides.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("copy_min_rows", [1, 4])
def test_random_operations_leave_the_same(
    twins: Twins, prepared: Callable[[], None], copy_min_rows: int
) -> None:
    """After each operation both sides' objects are in the same state; at the end, the same rows."""
    reports: list[FlushReport] = []
    stock_factory, our_factory = sessionmaker(twins.stock), sessionmaker(twins.ours)
    register(our_factory, copy_min_rows=copy_min_rows).on_flush(reports.append)
    print(f"seed: {SEED or 'derandomized'}, examples: {EXAMPLES}")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=SEED is None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(operations, min_size=5, max_size=25))
    def check(drawn: list[tuple[Any, ...]]) -> None:
        prepared()
        with stock_factory() as stock_session, our_factory() as our_session:
            stock, ours = Player(stock_session), Player(our_session)
            for operation in [*drawn, ("commit",)]:
                raised = [outcome(player, operation) for player in (stock, ours)]
                note(f"{operation} -> {raised[1]}")
                assert raised[1] == raised[0]
                found = differences("objects", ours.states(), stock.states())
                assert not found, "\n".join(found)
        found = differences("rows", contents_of(twins.ours), contents_of(twins.stock))
        assert not found, "\n".join(found)

    if SEED is not None:
        check = hypothesis.seed(int(SEED))(check)
    check()
    writers = {entry.writer for report in reports for entry in report.entries}
    assert "copy" in writers
    assert set(all_rows(twins.ours)) == set(all_rows(twins.stock))


def outcome(player: Player, operation: tuple[Any, ...]) -> str | None:
    """The class of what the operation raised, after which the session is rolled back."""
    try:
        player.play(operation)
    except SQLAlchemyError as error:
        player.savepoints.clear()
        player.session.rollback()
        return type(error).__name__
    return None
