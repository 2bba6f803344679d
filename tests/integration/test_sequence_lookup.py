"""Which sequence numbers a class, for every way to declare it in a model and in a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.run_names import of_this_run
from sqlalchemy import (
    BigInteger,
    Engine,
    FetchedValue,
    ForeignKey,
    Identity,
    Integer,
    Sequence,
    SmallInteger,
    TypeDecorator,
    create_engine,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, register, reserve_ids
from sqla_seqreserve.embedded import EmbeddedServer


class Base(DeclarativeBase):
    pass


class Number:
    """A key whose values are of an application's class."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class NumberType(TypeDecorator[Number]):
    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Number | None, dialect: Any) -> int | None:
        return None if value is None else value.value

    def process_result_value(self, value: int | None, dialect: Any) -> Number | None:
        return None if value is None else Number(value)


class ByIdentity(Base):
    __tablename__ = "by_identity"
    id: Mapped[int] = mapped_column(BigInteger, Identity(start=11), primary_key=True)


class ByIdentityAlways(Base):
    __tablename__ = "by_identity_always"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True, start=11), primary_key=True)


class BySerial(Base):
    __tablename__ = "by_serial"
    id: Mapped[int] = mapped_column(primary_key=True)


class ByBigSerial(Base):
    __tablename__ = "by_big_serial"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class BySmallSerial(Base):
    __tablename__ = "by_small_serial"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)


class BySequence(Base):
    __tablename__ = "by_sequence"
    id: Mapped[int] = mapped_column(Sequence("some_sequence", start=21), primary_key=True)


_defaulted = Sequence("defaulted_sequence", start=31)


class BySequenceWithDefault(Base):
    __tablename__ = "by_sequence_with_default"
    id: Mapped[int] = mapped_column(
        _defaulted, server_default=_defaulted.next_value(), primary_key=True
    )


_unowned = Sequence("unowned_sequence", metadata=Base.metadata, start=41)


class ByDefaultOfUnowned(Base):
    __tablename__ = "by_default_of_unowned"
    id: Mapped[int] = mapped_column(server_default=_unowned.next_value(), primary_key=True)


class ByFetchedDefault(Base):
    """The database has a default; the model only says that there is one."""

    __tablename__ = "by_fetched_default"
    id: Mapped[int] = mapped_column(server_default=FetchedValue(), primary_key=True)


class ByAnotherName(Base):
    __tablename__ = "by_another_name"
    number: Mapped[int] = mapped_column("Record No.", Identity(), primary_key=True)


class QuotedEverything(Base):
    __tablename__ = 'Mixed "Case" %(x)s'
    key: Mapped[int] = mapped_column("Primary Key", Identity(), primary_key=True)


class QuotedSequence(Base):
    __tablename__ = "select"
    id: Mapped[int] = mapped_column("from", Sequence("Some Sequence's"), primary_key=True)


class ByDecoratedType(Base):
    __tablename__ = "by_decorated_type"
    id: Mapped[Number] = mapped_column(NumberType, Identity(), primary_key=True)


class CompositeKey(Base):
    __tablename__ = "composite_key"
    tenant: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
    }  # declarative's own name


class Dog(Animal):
    """Joined-table inheritance with a key of another name."""

    __tablename__ = "dog"
    dog_id: Mapped[int] = mapped_column(ForeignKey(Animal.id), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # declarative's own name


class Cat(Animal):
    """Single-table inheritance."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # declarative's own name


class Robot(Animal):
    """Concrete inheritance: a table and a sequence of its own."""

    __tablename__ = "robot"
    id: Mapped[int] = mapped_column(Identity(start=1_000), primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"concrete": True, "polymorphic_identity": "robot"}  # declarative's own name


SEQUENCES = {
    ByIdentity: "public.by_identity_id_seq",
    ByIdentityAlways: "public.by_identity_always_id_seq",
    BySerial: "public.by_serial_id_seq",
    ByBigSerial: "public.by_big_serial_id_seq",
    BySmallSerial: "public.by_small_serial_id_seq",
    BySequence: "some_sequence",
    BySequenceWithDefault: "defaulted_sequence",
    ByDefaultOfUnowned: "public.unowned_sequence",
    ByFetchedDefault: "public.fetched_sequence",
    ByAnotherName: 'public."by_another_name_Record No._seq"',
    QuotedEverything: 'public."Mixed ""Case"" %(x)s_Primary Key_seq"',
    QuotedSequence: '"Some Sequence\'s"',
    ByDecoratedType: "public.by_decorated_type_id_seq",
    CompositeKey: "public.composite_key_id_seq",
    Animal: "public.animal_id_seq",
    Dog: "public.animal_id_seq",
    Cat: "public.animal_id_seq",
    Robot: "public.robot_id_seq",
}


@pytest.fixture(scope="module")
def tables(postgres_server: EmbeddedServer) -> Iterator[Engine]:
    """An engine on a database that has the tables, for all tests of this file."""
    engine = create_engine(postgres_server.create_database(of_this_run("sequence_lookup")))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE SEQUENCE fetched_sequence START 51"))
        connection.execute(
            text("ALTER TABLE by_fetched_default ALTER id SET DEFAULT nextval('fetched_sequence')")
        )
    yield engine
    engine.dispose()
    postgres_server.drop_database(of_this_run("sequence_lookup"))


@pytest.fixture
def session(tables: Engine) -> Iterator[Session]:
    """A session on the tables, which are empty."""
    with tables.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
    with Session(tables) as session:
        yield session


def test_every_class_finds_its_sequence(session: Session, tables: Engine) -> None:
    """Ids come from the sequence that the column's default uses, and explain() names it, in each
    kind of model.
    """
    found = register(session).explain(tables, SEQUENCES)
    assert {item.model: item.sequence for item in found} == SEQUENCES
    assert {item.model: item.path for item in found} == dict.fromkeys(SEQUENCES, "copy")
    ids = reserve_ids(session, dict.fromkeys(SEQUENCES, 3))
    for model, sequence in SEQUENCES.items():
        last = session.scalar(text(f"SELECT last_value FROM {sequence}"))
        if sequence != "public.animal_id_seq":
            assert getattr(ids[model][-1], "value", ids[model][-1]) == last, model
    assert {type(key) for key in ids[ByDecoratedType]} == {Number}
    family = [number for model in (Animal, Dog, Cat) for number in ids[model]]
    assert sorted(set(family)) == sorted(family)


@pytest.mark.parametrize("model", SEQUENCES, ids=lambda model: model.__name__)
@pytest.mark.parametrize("copy_min_rows", [1, 1_000])
def test_every_class_is_flushed_with_reserved_keys(
    session: Session, tables: Engine, model: type[Base], copy_min_rows: int
) -> None:
    """The reserved key is in the object, in its row and in the rows of inherited tables, in the
    order of add(); ids of later plain INSERTs are larger.
    """
    reports: list[FlushReport] = []
    register(session, reserve="always", copy_min_rows=copy_min_rows).on_flush(reports.append)
    extra = {CompositeKey: {"tenant": 5}, Robot: {"kind": "robot"}}.get(model, {})
    objects = [model(**extra) for _ in range(4)]
    session.add_all(objects)
    session.flush()
    keys = [session.identity_key(instance=item)[1] for item in objects]
    assert None not in {part for key in keys for part in key}
    plain = [getattr(key[-1], "value", key[-1]) for key in keys]
    assert plain == sorted(set(plain))
    [entry] = reports[0].entries
    assert (entry.model, entry.rows) == (model, 4)
    if copy_min_rows == 1 or model is ByIdentityAlways:
        assert (entry.writer, entry.reserved, entry.reason) == ("copy", 4, None)
    else:
        assert (entry.writer, entry.reserved) == ("insert", 4)
        assert entry.reason == (
            "few rows" if copy_min_rows is None else "few rows: fewer than copy_min_rows"
        )
    session.commit()
    session.expunge_all()
    assert [session.get_one(model, key).__class__ for key in keys] == [model] * 4
    if model not in {Animal, Dog, Cat, Robot}:
        added = model(**extra)
        with Session(tables) as other:
            other.add(added)
            other.flush()
            key = other.identity_key(instance=added)[1][-1]
            assert getattr(key, "value", key) > plain[-1]


def test_a_decorated_key_is_of_its_type(session: Session) -> None:
    """The key of a column with a TypeDecorator is the value that the type makes of the
    database's.
    """
    register(session, copy_min_rows=1)
    item = ByDecoratedType()
    session.add(item)
    session.flush()
    assert isinstance(item.id, Number)
    assert session.scalars(select(ByDecoratedType)).one() is item


def test_half_a_composite_key_is_completed(session: Session) -> None:
    """In a composite key the part that the user sets stays, and the generated part is reserved."""
    register(session, copy_min_rows=1)
    items = [CompositeKey(tenant=tenant) for tenant in (3, 1, 2)]
    items.append(CompositeKey(tenant=9, id=5_000))
    session.add_all(items)
    session.flush()
    assert [item.tenant for item in items] == [3, 1, 2, 9]
    assert items[0].id < items[1].id < items[2].id
    assert items[3].id == 5_000


def test_families_share_one_sequence_in_the_order_of_add(session: Session) -> None:
    """Objects of the classes of one hierarchy are numbered in the order of add(), whatever their
    class.
    """
    register(session, copy_min_rows=1)
    mixed = [Dog(), Cat(), Animal(), Cat(), Dog(), Dog(), Animal()]
    session.add_all(mixed)
    session.flush()
    ids = [animal.id for animal in mixed]
    assert ids == sorted(set(ids))
    assert [a.dog_id for a in mixed if isinstance(a, Dog)] == [
        a.id for a in mixed if isinstance(a, Dog)
    ]
    rows = session.execute(select(Animal.__table__.c["id", "kind"]).order_by("id")).all()
    assert [(row.id, row.kind) for row in rows] == [(a.id, a.kind) for a in mixed]


class SharedBase(DeclarativeBase):
    pass


_shared = Sequence("shared_sequence", metadata=SharedBase.metadata)


class Left(SharedBase):
    __tablename__ = "left_side"
    id: Mapped[int] = mapped_column(BigInteger, _shared, primary_key=True)


class Right(SharedBase):
    __tablename__ = "right_side"
    id: Mapped[int] = mapped_column(
        BigInteger, server_default=_shared.next_value(), primary_key=True
    )


def test_tables_may_share_a_sequence(engine: Engine) -> None:
    """Two tables that share a sequence never get the same id, by reserve_ids, a flush or an
    INSERT.
    """
    SharedBase.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        ids = reserve_ids(session, {Left: 20, Right: 20})
        objects = [cls() for _ in range(10) for cls in (Left, Right)]
        session.add_all(objects)
        session.flush()
        plain = session.execute(insert(Right).values().returning(Right.id)).scalar_one()
        taken = [*ids[Left], *ids[Right], *(item.id for item in objects), plain]
        assert len(set(taken)) == 61


def test_a_key_with_an_identity_of_the_database_alone(engine: Engine) -> None:
    """If only the database declares the key an identity, and the model says nothing, a flush takes
    ids from it.
    """

    class OwnBase(DeclarativeBase):
        pass

    class Thing(OwnBase):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(Integer, primary_key=True)

    with Session(engine) as session:
        session.execute(text("CREATE TABLE thing (id int GENERATED BY DEFAULT AS IDENTITY)"))
        register(session, copy_min_rows=1)
        things = [Thing(), Thing()]
        session.add_all(things)
        session.flush()
        assert things[0].id < things[1].id


def test_of_several_owned_sequences_the_default_decides(engine: Engine) -> None:
    """If a column owns a sequence that is left over, ids come from the owned one that its default
    draws from.
    """
    with Session(engine) as session:
        session.execute(
            text(
                "CREATE TABLE by_serial (id serial PRIMARY KEY);"
                "CREATE SEQUENCE newer START 70 OWNED BY by_serial.id;"
                "ALTER TABLE by_serial ALTER id SET DEFAULT nextval('newer')"
            )
        )
        assert list(reserve_ids(session, BySerial, 2)) == [70, 71]
        assert session.execute(insert(BySerial).returning(BySerial.id)).scalar_one() == 72
