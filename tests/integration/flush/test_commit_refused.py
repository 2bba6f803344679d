"""Errors of the database for a save whose COMMIT travels along, compared with plain SQLAlchemy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from fixtures.commits import EACH, SHAPES, WAYS, Author, dated, one, saving, travelled, trial
from fixtures.sides import Side, both, refusal
from sqlalchemy import Engine, ForeignKey, Identity, Sequence, create_engine, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
    validates,
)
from sqlalchemy.orm.exc import FlushError

from sqla_seqreserve import register

pytestmark = pytest.mark.usefixtures("commits_pay")

NO_ROWS = (
    "CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER no_row BEFORE INSERT ON public.author FOR EACH ROW EXECUTE FUNCTION no_row()",
)

LATE = (
    "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE check_violation USING MESSAGE = ''late''; END'",
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.author DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION late()",
)

REFUSALS = {
    "a trigger that discards rows": NO_ROWS,
    "a constraint trigger at the end": LATE,
    "a check": ("ALTER TABLE public.author ADD CHECK (name = '') NOT VALID",),
    "a rule": ("CREATE RULE nothing AS ON INSERT TO public.author DO INSTEAD NOTHING",),
    "a table that is gone": ("DROP TABLE public.author CASCADE",),
    "another column": ("ALTER TABLE public.author ADD COLUMN more int DEFAULT 5",),
    "a column that is gone": ("ALTER TABLE public.author DROP COLUMN number",),
}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("change", REFUSALS)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_what_the_database_refuses_is_refused_as_ever(
    twin_urls: tuple[str, str], driver: str, way: str, shape: str, change: str
) -> None:
    """An error comes from the same call as in plain SQLAlchemy, and nothing of the save is stored;
    the message itself notices a table that was altered meanwhile.
    """
    saves = trial(SHAPES[shape], between=REFUSALS[change])

    def run(side: Side) -> Any:
        try:
            return saves(side)
        except SQLAlchemyError as error:
            # The table cannot be counted.
            return refusal(error)

    travelled(twin_urls, WAYS[way], run, driver)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE public.dated ALTER at SET DEFAULT 'infinity'",
        "ALTER TABLE public.dated ALTER at SET DEFAULT clock_timestamp() + '9999 years'",
        "ALTER TABLE public.dated ALTER state DROP NOT NULL, ALTER state SET DEFAULT NULL",
        "ALTER TABLE public.dated ALTER state SET DEFAULT 'old'",
        "ALTER TABLE public.dated ALTER id DROP IDENTITY, ALTER id SET DEFAULT 7",
    ],
)
def test_a_default_that_nobody_can_read_is_refused_as_ever(
    twin_urls: tuple[str, str], change: str
) -> None:
    """If a value that an INSERT returns may be refused by SQLAlchemy, it is read before the
    COMMIT.
    """
    run = trial(dated, between=(change,))

    def counted_too(side: Side) -> Any:
        return run(side), side.rows("SELECT state FROM public.dated")

    travelled(twin_urls, WAYS["along"], counted_too)


def numbered(number: int) -> Callable[[], list[Any]]:
    return lambda: [Author(name="numbered", number=number)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("way", WAYS)
def test_a_deferred_constraint_is_heard_of_from_commit(
    twin_urls: tuple[str, str], driver: str, way: str
) -> None:
    """The error of a deferred constraint is that of the COMMIT, without a statement, when the
    objects are persistent already; after a rollback session and connection go on.
    """

    def run(side: Side) -> Any:
        numbers = iter(range(100))
        shape = lambda: [Author(name="a", number=next(numbers))]  # noqa: E731  # short
        for _ in range(3):
            side.run(saving(shape))
        outcomes = [trial(numbered(number), warm=0)(side) for number in (1, 50, 50)]
        side.run(saving(one))
        with side.beside() as connection:
            count = connection.scalar(text("SELECT count(*) FROM public.author"))
        return outcomes, count

    assert travelled(twin_urls, WAYS[way], run, driver)


class Shelves(DeclarativeBase):
    pass


class Shelf(Shelves):
    __tablename__ = "shelf"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    places: Mapped[list[Place]] = relationship(cascade="")
    sign: Mapped[Sign | None] = relationship(cascade="")


class Place(Shelves):
    __tablename__ = "place"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("public.shelf.id"))

    @validates("shelf_id")
    def refuse(self, _key: str, _value: int) -> int:
        raise ValueError("not there")


class Sign(Shelves):
    __tablename__ = "sign"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("public.shelf.id"))

    def __len__(self) -> int:
        return 0

    @validates("shelf_id")
    def refuse(self, _key: str, _value: int) -> int:
        raise ValueError("not there")


HOLDING = {
    "of another class": lambda: Shelf(places=[Shelf()]),
    "refused by itself": lambda: Shelf(places=[Place()]),
    "that counts as false": lambda: Shelf(sign=Sign()),
}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("kind", HOLDING)
def test_what_a_relationship_refuses_after_the_insert_is_not_committed(
    twin_urls: tuple[str, str], driver: str, kind: str
) -> None:
    """If SQLAlchemy refuses an object of a relationship once the INSERT of its parent is sent, the
    parent is not stored.
    """

    def save(session: Session) -> Any:
        session.add(HOLDING[kind]())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the object is not in the session
            try:
                session.commit()
            except (FlushError, ValueError) as error:
                return type(error), str(error)

    def run(side: Side) -> Any:
        for _ in range(3):
            side.run(saving(lambda: [Shelf()]))
        return side.run(save), side.rows("SELECT count(*) FROM public.shelf")

    said, stored = both(twin_urls, Shelves, run, driver=driver, way=WAYS["along"])
    assert said is not None
    assert stored == [(3,)]


class Pages(DeclarativeBase):
    pass


_numbers = Sequence("leaf_numbers", metadata=Pages.metadata)


class Leaf(Pages):
    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True)
    mark: Mapped[int] = mapped_column(unique=True)


class Numbered(Pages):
    """SQLAlchemy sends one INSERT per row, because it cannot assign the returned keys to
    the rows.
    """

    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(
        _numbers, server_default=_numbers.next_value(), primary_key=True
    )
    mark: Mapped[int] = mapped_column(unique=True)


@pytest.fixture
def paged(engine: Engine) -> Iterator[Engine]:
    """An engine that sends ten rows at a time."""
    found = create_engine(engine.url, insertmanyvalues_page_size=10)
    yield found
    found.dispose()


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "saved"])
@pytest.mark.parametrize("rows", [2, 9, 10, 11, 30])
@pytest.mark.parametrize("model", [Leaf, Numbered])
def test_rows_that_go_in_pages_are_committed_together(
    engine: Engine, paged: Engine, model: type[Any], rows: int, refused: bool
) -> None:
    """If SQLAlchemy sends the rows of one INSERT in pages, or one by one, the COMMIT follows the
    last of them, and if one is refused, none is stored.
    """
    Pages.metadata.create_all(engine)
    sessions = sessionmaker(paged)
    register(sessions)
    for turn in range(3):
        with sessions() as session:
            first = turn * 1000
            session.add_all([model(mark=first + number) for number in range(rows)])
            if refused:
                session.add(model(mark=first))
                with pytest.raises(IntegrityError):
                    session.commit()
            else:
                session.commit()
        with Session(engine) as session:
            found = session.scalars(select(model.mark).where(model.mark >= first)).all()
        assert sorted(found) == ([] if refused else list(range(first, first + rows)))
