"""Errors for likely mistakes say what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sqla_seqreserve import (
    aio,
    assign_ids,
    bulk_insert,
    check_sequences,
    register,
    repair_sequences,
    reserve_ids,
)
from sqla_seqreserve.errors import ConfigurationError, RowProblem
from sqla_seqreserve.metrics import HealthMetrics, LibraryMetrics

URL = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"


class Named:
    """A mixin with a mapped class."""


class Base(DeclarativeBase):
    pass


class Order(Named, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class Extension:
    """Looks like Flask-SQLAlchemy's object."""

    def __init__(self) -> None:
        self.session = scoped_session(sessionmaker())


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (create_engine(URL), "an Engine flushes nothing: register the sessionmaker"),
        (
            create_async_engine(URL),
            "an AsyncEngine flushes nothing: register the async_sessionmaker",
        ),
        (Order, r"register the sessionmaker, and give models as classes=\[Order\]"),
        (Base, r"classes=\[Base\]"),
        (Extension(), r"register\(db.session\)"),
        (None, "expected a Session or AsyncSession"),
    ],
)
def test_what_cannot_be_registered(target: Any, said: str) -> None:
    """Whatever has no flush is refused, with what to register in its place."""
    with pytest.raises(ConfigurationError, match=said):
        register(target)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (Order, r"write classes=\[Order\]"),
        ([int], "builtins.int, which is neither"),
        ([object], "which is neither"),
        (["Order"], "found 'Order'"),
        ("Order", "found 'Order'"),
        (7, "found 7"),
    ],
)
def test_classes_that_could_never_be_enrolled(classes: Any, said: str) -> None:
    """The setting ``classes`` must be several classes, each mapped, a base, or a mixin of a mapped
    class.
    """
    maker = sessionmaker()
    with pytest.raises(ConfigurationError, match=said):
        register(maker, classes=classes)
    for good in (Order, Base, Named):
        register(maker, classes=[good]).unregister()


@pytest.mark.parametrize(
    ("mode", "meant"),
    [("copy", "bulk"), ("orm", "reserve"), ("Bulk", "bulk"), ("reserved", "reserve")],
)
def test_the_mode_that_is_meant_is_named(mode: Any, meant: str) -> None:
    """If the mode is a writer's name or misspelt, the error names the mode that was meant."""
    with pytest.raises(ConfigurationError, match=f'did you mean "{meant}"'):
        register(sessionmaker(), mode=mode)


@pytest.mark.parametrize("mode", [True, None, "quick"])
def test_a_mode_that_means_nothing_gets_the_list(mode: Any) -> None:
    """If a wrong mode resembles no other, the error guesses nothing and lists the modes."""
    with pytest.raises(ConfigurationError, match="found") as refused:
        register(sessionmaker(), mode=mode)
    assert "meant" not in str(refused.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda session: reserve_ids(session, Order, 1),
        lambda session: assign_ids(session, [Order()]),
        lambda session: bulk_insert(session, Order, [{}]),
        lambda session: check_sequences(session, Base),
        lambda session: repair_sequences(session, Base),
    ],
    ids=["reserve_ids", "assign_ids", "bulk_insert", "check_sequences", "repair_sequences"],
)
def test_an_async_session_in_a_synchronous_function(call: Any) -> None:
    """A synchronous function that gets an AsyncSession raises an error that names run_sync()."""
    with pytest.raises(ConfigurationError, match="run_sync"):
        call(AsyncSession(create_async_engine(URL)))
    with pytest.raises(ConfigurationError, match="run_sync"):
        call(async_sessionmaker(create_async_engine(URL))())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("reserve_ids", (Order, 1)),
        ("assign_ids", ([Order()],)),
        ("bulk_insert", (Order, [{}])),
        ("check_sequences", (Base,)),
        ("repair_sequences", (Base,)),
    ],
)
async def test_a_session_in_an_awaitable_function(name: str, arguments: tuple[Any, ...]) -> None:
    """A function of aio that gets a Session raises an error that names its synchronous twin."""
    with pytest.raises(ConfigurationError, match=f"call sqla_seqreserve.{name} with it"):
        await getattr(aio, name)(Session(create_engine(URL)), *arguments)


@pytest.mark.parametrize("kind", [LibraryMetrics, HealthMetrics])
def test_a_second_set_of_metrics(kind: Any) -> None:
    """A second set of metrics on a registry is refused, and the first stays unchanged."""
    registry = CollectorRegistry()
    first = kind(registry)
    before = sorted(metric.name for metric in registry.collect())
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}.*already"):
        kind(registry)
    assert sorted(metric.name for metric in registry.collect()) == before
    if isinstance(first, LibraryMetrics):
        first.close()


def test_what_is_wrong_with_a_row_is_named_without_a_dash() -> None:
    """A row's problem names the row and the attribute, or only the row if it is no mapping."""
    assert str(RowProblem(0, "total", "has no value")) == "row 0, total: has no value"
    assert str(RowProblem(0, "", "expected a mapping, found int")) == (
        "row 0: expected a mapping, found int"
    )
