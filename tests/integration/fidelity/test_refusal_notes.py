"""The note that names the refused object names the right one, and never hides the refusal."""

from __future__ import annotations

from typing import Any, ClassVar, Never

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, Identity, String, TypeDecorator
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WAYS = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("always", {"reserve": "always"}),
    Way("reserve", {"mode": "reserve"}),
)


class Shy:
    """Cannot be printed."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> Never:
        raise RuntimeError("not to be printed")


class ShyString(TypeDecorator[Shy]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> Any:
        return value if value is None else value.value


class Base(DeclarativeBase):
    pass


class Animal(Base):
    __tablename__ = "animal"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None] = mapped_column(unique=True)


class Dog(Animal):
    __tablename__ = "dog"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "dog"}
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    trick: Mapped[str | None] = mapped_column(unique=True)


class Cat(Animal):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "cat"}
    lives: Mapped[int | None] = mapped_column(unique=True)


class Secret(Base):
    __tablename__ = "secret"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    word: Mapped[Any] = mapped_column(ShyString, unique=True)


def refused(trial: list[Any], before: list[Any]) -> Any:
    def run(side: Side) -> Any:
        def save(session: Session) -> Any:
            session.add_all([type(item)(**given(item)) for item in before])
            session.flush()
            session.expunge_all()
            session.add_all([type(item)(**given(item)) for item in trial])
            with pytest.raises(SQLAlchemyError) as error:
                session.flush()
            session.rollback()
            return refusal(error.value)

        return side.run(save)

    return run


def given(item: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(item).items() if key[0] != "_"}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "items",
    [
        [Dog(), Cat(id=-1)],
        [Cat(), Dog(id=-1)],
        [Dog(), Cat(lives=9)],
        [Dog(trick="sit"), Cat(), Animal()],
        [Animal(), Dog(), Cat(name="first")],
    ],
    ids=["cat's key", "dog's key", "cat's own", "dog's own", "name"],
)
def test_of_several_classes_in_one_table(
    twin_urls: tuple[str, str], way: Way, driver: str, items: list[Any]
) -> None:
    """If classes share a table, the note does not name an object of a class without the refused
    column or table.
    """
    before = [Animal(id=-1, name="first"), Cat(lives=9), Dog(trick="sit")]
    both(twin_urls, Base, refused(items, before), way=way, driver=driver)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_value_that_cannot_be_printed(twin_urls: tuple[str, str], way: Way) -> None:
    """If a value cannot be printed, the refusal is raised as in plain SQLAlchemy."""
    trial = refused([Secret(word=Shy("b")), Secret(word=Shy("a"))], [Secret(word=Shy("a"))])
    assert both(twin_urls, Base, trial, way=way)[0] == IntegrityError.__name__
