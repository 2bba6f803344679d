"""Registration.explain(): how each class is written, from which sequence, and why not faster."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.shop import Base, Customer, Order, Tag
from sqlalchemy import Engine, String, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import Explanation, FlushReport, register
from sqla_seqreserve.errors import UnmappedClassError
from sqla_seqreserve.testing import record_statements


class OtherBase(DeclarativeBase):
    pass


class Country(OtherBase):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(2), primary_key=True)


class Nowhere(OtherBase):
    __tablename__ = "nowhere"
    id: Mapped[int] = mapped_column(primary_key=True)


class OneByOne(OtherBase):
    __tablename__ = "tag"
    __mapper_args__ = {"batch": False}  # declarative's own name
    id: Mapped[int] = mapped_column(primary_key=True)


TAG = "public.tag_id_seq"


def explained(shop: Engine, model: type[Any], **settings: Any) -> Explanation:
    [explanation] = register(Session(), **settings).explain(shop, [model])
    return explanation


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (Tag, {}, ("copy", TAG, None)),
        (Tag, {"mode": "reserve"}, ("orm", TAG, "mode is reserve")),
        (Tag, {"mode": "off"}, ("orm", None, "mode is off")),
        (Tag, {"classes": [Order]}, ("orm", None, "the class is not enrolled")),
        (OneByOne, {}, ("orm", TAG, "the mapper has batch=False")),
        (Nowhere, {}, ("orm", None, "the database has no such table")),
    ],
)
def test_each_class_says_path_sequence_and_reason(
    shop: Engine, model: type[Any], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Where a class is not written by COPY, there is a reason."""
    found = explained(shop, model, **settings)
    assert (found.path, found.sequence, found.reason) == expected
    assert found.model is model


def test_a_natural_key_is_copied_without_ids(shop: Engine) -> None:
    """A class that nothing numbers goes by COPY all the same, and says that no id is reserved."""
    with shop.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE country (code varchar(2) PRIMARY KEY)"))
        [found] = register(Session()).explain(connection, [Country])
        assert (found.path, found.sequence) == ("copy", None)
        assert found.reason is not None
        assert found.reason.startswith("no id is reserved: no key column is generated")
        with Session(connection) as session:
            reports: list[FlushReport] = []
            register(session, copy_min_rows=1).on_flush(reports.append)
            session.add_all([Country(code="GB"), Country(code="IE")])
            session.flush()
            [entry] = reports[0].entries
            assert (entry.writer, entry.rows, entry.reserved) == ("copy", 2, 0)


def test_without_classes_every_enrolled_one_is_explained(shop: Engine) -> None:
    """The classes of a base, or all that the process has mapped, in the order of their names."""
    found = register(Session(), classes=[Base]).explain(shop)
    assert [item.model for item in found] == [Customer, Order, Tag]
    every = [item.model for item in register(Session()).explain(shop)]
    assert {Customer, Order, Tag, Country, Nowhere} <= set(every)


def test_it_is_a_sequence_and_a_table(shop: Engine) -> None:
    """The result prints as an aligned table, one line a class."""
    found = register(Session()).explain(shop, [Tag, Nowhere])
    assert (len(found), found[0].model, [item.model for item in found[1:]]) == (2, Tag, [Nowhere])
    assert str(found).splitlines() == [
        "class    path  sequence           reason",
        "Tag      copy  public.tag_id_seq",
        "Nowhere  orm   -                  the database has no such table",
    ]


def test_it_only_reads(shop: Engine) -> None:
    """Explaining reads the catalogue and takes no id."""
    registration = register(Session())
    with record_statements(shop) as statements:
        registration.explain(shop, [Customer, Order, Tag])
    assert len(statements) == 1
    with shop.connect() as connection:
        assert connection.scalar(text("SELECT is_called FROM tag_id_seq")) is False


def test_another_database_is_said_by_name() -> None:
    """On SQLite every class is SQLAlchemy's, for that reason."""
    engine = create_engine("sqlite://")
    [found] = register(Session()).explain(engine, [Tag])
    assert (found.path, found.sequence, found.reason) == ("orm", None, "the database is sqlite")


def test_an_unmapped_class_is_refused(shop: Engine) -> None:
    """What is not mapped cannot be explained."""
    with pytest.raises(UnmappedClassError, match="int is not a mapped class"):
        register(Session()).explain(shop, [int])
