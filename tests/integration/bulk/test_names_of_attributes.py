"""What is given where the bulk functions take names of attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, func, true
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    mapped_column,
    synonym,
)

from sqla_seqreserve import bulk_insert, bulk_sync, bulk_update, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError


class Base(DeclarativeBase):
    pass


@dataclass
class Point:
    x: int | None
    y: int | None


class Place(Base):
    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column("place_code", unique=True)
    x: Mapped[int | None]
    y: Mapped[int | None]
    at: Mapped[Point] = composite("x", "y")
    short = synonym("code")


Place.upper = column_property(func.upper(Place.code))  # type: ignore[attr-defined]  # added to the class


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


ROW = {"code": "a", "x": 1}
SETTINGS: dict[str, Callable[[Session, Any], object]] = {
    "conflict": lambda session, given: bulk_upsert(session, Place, [ROW], conflict=given),
    "update": lambda session, given: bulk_upsert(
        session, Place, [ROW], conflict="code", update=given
    ),
    "key": lambda session, given: bulk_update(session, Place, [ROW], key=given),
    "columns": lambda session, given: bulk_update(session, Place, [ROW], key="code", columns=given),
    "key ": lambda session, given: bulk_sync(session, Place, [ROW], key=given, scope=true()),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("given", [Place.code, [Place.code]], ids=["one", "several"])
def test_an_attribute_in_place_of_its_key(session: Session, setting: str, given: Any) -> None:
    """Where a setting takes keys of attributes and an attribute is given, the error says what to
    write.
    """
    name = setting.strip()
    expected = rf"^{name} takes the keys.* found Place.code; write {name}=\['code'\]"
    with pytest.raises(ConfigurationError, match=expected):
        SETTINGS[setting](session, given)


WRITES: dict[str, Callable[[Session, Any], object]] = {
    "insert": lambda session, rows: bulk_insert(session, Place, rows),
    "upsert": lambda session, rows: bulk_upsert(session, Place, rows, conflict="code"),
    "update": lambda session, rows: bulk_update(session, Place, rows, key="code"),
    "sync": lambda session, rows: bulk_sync(session, Place, rows, key="code", scope=true()),
}
EACH = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@EACH
@pytest.mark.parametrize("name", [Place.x, 5, None], ids=["attribute", "number", "None"])
def test_a_row_whose_keys_are_no_names(
    session: Session, write: Callable[[Session, Any], object], name: Any
) -> None:
    """A row with another key than a string is refused, and the error names the key."""
    for rows in ([{"code": "a", name: 1}], {"code": ["a"], name: [1]}):
        with pytest.raises(InvalidRowsError, match="expected the attribute's name, found") as error:
            write(session, rows)
        assert {problem.attribute for problem in error.value.problems} == {str(name)}


@EACH
def test_attributes_that_stand_for_columns(
    session: Session, write: Callable[[Session, Any], object]
) -> None:
    """For a composite or a synonym, the error names the attributes of its columns."""
    with pytest.raises(InvalidRowsError) as error:
        write(session, [{"code": "a", "at": Point(1, 2), "short": "b"}])
    assert {problem.attribute: problem.problem for problem in error.value.problems} == {
        "at": "is a composite: give 'x' and 'y'",
        "short": "is a synonym: give 'code'",
    }


@pytest.mark.parametrize("name", ["upsert", "update", "sync"])
def test_an_attribute_that_is_an_expression(session: Session, name: str) -> None:
    """An attribute that is computed by SQL cannot be overwritten, and the error names it."""
    with pytest.raises(ConfigurationError, match=r"Place\.upper is none that can be written"):
        WRITES[name](session, [{"code": "a", "upper": "A"}])
