"""GENERATED ALWAYS refuses keys that an INSERT gives: what plain SQLAlchemy can save, a registered
session can, and objects have the keys of their rows.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, WAYS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, Identity, String, func, insert, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import bulk_insert


class Kind(str, enum.Enum):  # noqa: UP042  # what many applications have, and not a StrEnum
    GOOD = "good"


class Word(str):
    """A subclass of str."""

    __slots__ = ()


class Base(DeclarativeBase):
    pass


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str | None] = mapped_column(String)


class Unbatched(Base):
    __tablename__ = "unbatched"
    __mapper_args__: ClassVar[Any] = {"batch": False}
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str | None] = mapped_column(String)


class Child(Always):
    """Its key comes from the table that it inherits from."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(ForeignKey("always.id"), primary_key=True)
    toy: Mapped[str | None]


class Branch(Base):
    """Refers to its own table, so that its objects are written together."""

    __tablename__ = "branch"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "sort", "polymorphic_identity": "branch"}
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    sort: Mapped[str]
    name: Mapped[str | None] = mapped_column(String)
    made: Mapped[int] = mapped_column(default=lambda: 5)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("branch.id"))
    parent: Mapped[Branch | None] = relationship(remote_side="Branch.id")


class Twig(Branch):
    """A branch of another class, in the same table."""

    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "twig"}


class Toy(Always):
    """Some of its rows go by INSERT: those that give a value for the column with a server
    default.
    """

    __tablename__ = "toy"
    id: Mapped[int] = mapped_column(ForeignKey("always.id"), primary_key=True)
    kind: Mapped[str | None] = mapped_column(server_default="ball")
    price: Mapped[int | None]


def saving(model: type[Any], value: Any = "n", **session: Any) -> Any:
    """A trial that writes rows, some with this value, and finds each by its key."""

    def trial(side: Side) -> Any:
        rows: list[dict[str, Any]] = [
            {"name": value if i % 3 == 1 else f"n{i}"} for i in range(side.way.rows)
        ]

        def save(session: Session) -> Any:
            try:
                keys = side.write(session, model, rows)
                return [
                    session.scalar(
                        text(f"SELECT name FROM {model.__tablename__} WHERE id = :id"), {"id": key}
                    )
                    if model is not Child
                    else session.get(model, key) is not None
                    for key in keys
                ]
            except SQLAlchemyError as error:
                return refusal(error)
            finally:
                session.rollback()

        return side.run(save, **session)

    return trial


SAVINGS = [
    (model, way)
    for model in (Always, Unbatched, Child)
    for way in WAYS
    # Plain SQLAlchemy's bulk INSERT into two tables returns no keys.
    if not (model is Child and way.as_mappings)
]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("model", "way"), SAVINGS, ids=str)
def test_saves_as_in_plain(
    twin_urls: tuple[str, str], model: type[Any], way: Way, driver: str
) -> None:
    """On every driver and in every way of writing the rows are stored, and each object's key leads
    to its row.
    """
    both(twin_urls, Base, saving(model), way=way, driver=driver)


@pytest.mark.parametrize("way", WAYS[:6], ids=str)
@pytest.mark.parametrize("model", [Always, Child])
def test_a_two_phase_session(twin_urls: tuple[str, str], model: type[Any], way: Way) -> None:
    """In a two-phase session, which SQLAlchemy writes itself, no key is refused."""
    both(twin_urls, Base, saving(model, twophase=True), way=way)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("value", [func.lower("SQL"), Word("sub"), Kind.GOOD])
@pytest.mark.parametrize("where", ["root", "middle", "everywhere"])
@pytest.mark.parametrize("settings", [{}, {"copy_min_rows": 1}], ids=str)
def test_trees_with_a_value_that_copy_may_refuse(
    twin_urls: tuple[str, str], settings: dict[str, Any], where: str, value: Any, driver: str
) -> None:
    """Children refer to their parents, even if the table itself numbers some of them."""

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            root = Branch(name="root")
            middle = [
                (Twig if i % 3 else Branch)(name=f"middle {i}", parent=root) for i in range(20)
            ]
            leaves = [
                (Branch if i % 2 else Twig)(name=f"leaf {i}", parent=middle[i // 4])
                for i in range(80)
            ]
            chosen = {"root": [root], "middle": middle[3:6]}
            for branch in chosen.get(where, [root, *middle[3:6], *leaves[10:12]]):
                branch.name = value
            session.add_all([*leaves, *middle, root])
            try:
                session.flush()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            query = """SELECT b.name, b.sort, b.made, p.name, p.sort FROM branch b
                LEFT JOIN branch p ON p.id = b.parent_id ORDER BY 1, 2, 4, 5"""
            stored = [tuple(row) for row in session.execute(text(query))]
            fits = [one.parent_id == one.parent.id for one in [*middle, *leaves]]
            session.rollback()
            return stored, fits

        return side.run(save)

    both(twin_urls, Base, trial, way=Way(str(settings), settings), driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("rows", [1, 60, 2000])
@pytest.mark.parametrize("settings", [{}, {"copy_min_rows": 1}, {"reserve": "always"}], ids=str)
def test_rows_of_a_subclass_that_copy_does_not_write(
    twin_urls: tuple[str, str], settings: dict[str, Any], rows: int, driver: str
) -> None:
    """If COPY writes a row of the base class, the subclass's row that goes by INSERT has the same
    key.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            toys = [Toy(name=f"n{i}", price=i) for i in range(rows)]
            for toy in toys[:3]:
                toy.kind = "doll"
            toys[-1].price = func.abs(-7)
            session.add_all(toys)
            session.flush()
            found = text("SELECT name, kind, price FROM toy JOIN always USING (id) WHERE id = :id")
            stored = [tuple(session.execute(found, {"id": toy.id}).one()) for toy in toys[-70:]]
            session.rollback()
            return stored

        return side.run(save)

    both(twin_urls, Base, trial, way=Way(str(settings), settings), driver=driver)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", [WAYS[1], WAYS[3]], ids=str)
@pytest.mark.parametrize("value", [Word("sub"), Kind.GOOD, 7, b"bytes", None, func.upper("sql")])
def test_a_value_that_copy_may_refuse(
    twin_urls: tuple[str, str], value: Any, way: Way, driver: str
) -> None:
    """Rows with values that COPY cannot write get their keys from the table."""
    both(twin_urls, Base, saving(Always, value), way=way, driver=driver)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("value", [Word("sub"), Kind.GOOD, 7, func.upper("sql")])
def test_mappings_with_a_value_that_copy_may_refuse(
    twin_urls: tuple[str, str], value: Any, rows: int, driver: str
) -> None:
    """bulk_insert writes rows with values that COPY may refuse, and SQL expressions, which plain
    SQLAlchemy accepts one row at a time.
    """

    def trial(side: Side) -> Any:
        # psycopg2 writes 7 and 'n1' into one VALUES, which PostgreSQL refuses, in plain SQLAlchemy
        # too.
        often = 1 if isinstance(value, int) else 3
        given = [{"name": value if i % often == 0 else f"n{i}"} for i in range(rows)]

        def save(session: Session) -> Any:
            try:
                if side.registered:
                    keys = list(bulk_insert(session, Always, given))
                else:
                    keys = [
                        session.scalar(insert(Always).values(row).returning(Always.id))
                        for row in given
                    ]
                found = text("SELECT name FROM always WHERE id = :id")
                return [session.scalar(found, {"id": key}) for key in keys]
            except SQLAlchemyError as error:
                return refusal(error)
            finally:
                session.rollback()

        return side.run(save)

    both(twin_urls, Base, trial, driver=driver)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_key_of_the_users_own(twin_urls: tuple[str, str], way: Way) -> None:
    """A key that the user set is refused as in plain SQLAlchemy."""

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            rows = [{"id": 1000 + i, "name": f"n{i}"} for i in range(side.way.rows)]
            try:
                side.write(session, Always, rows)
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            return "written"

        return side.run(save), side.rows("SELECT * FROM always")

    both(twin_urls, Base, trial, way=way)
