"""Prometheus metrics of the library's activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, Integer, func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, register, reserve_ids
from sqla_seqreserve.errors import InvalidCountError
from sqla_seqreserve.metrics import LibraryMetrics


class Base(DeclarativeBase):
    pass


class Measured(Base):
    __tablename__ = "measured"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    body: Mapped[str] = mapped_column(unique=True)


def measured(count: int, start: int = 0) -> list[Measured]:
    return [Measured(body=f"s3cret {number}") for number in range(start, start + count)]


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, reserve="always", copy_min_rows=10)
        yield session


Value = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def value(registry: CollectorRegistry) -> Iterator[Value]:
    metrics = LibraryMetrics(registry)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"seqreserve_{name}", labels)

    yield sample
    metrics.close()


def test_flushes_are_counted(session: Session, value: Value) -> None:
    """Flushes count ids, rows by writer, fallbacks by reason, and seconds."""
    session.add_all([*measured(20), Measured(body=func.upper("x"))])
    session.flush()
    session.add_all(measured(3, start=50))
    session.flush()
    assert value("ids_reserved_total", model="Measured") == 24
    assert value("rows_total", model="Measured", kind="insert", writer="copy") == 20
    assert value("rows_total", model="Measured", kind="insert", writer="insert") == 3
    assert value("rows_total", model="Measured", kind="insert", writer="orm") == 1
    reason = "body is an SQL expression"
    assert value("fallback_rows_total", model="Measured", kind="insert", reason=reason) == 1
    assert value("flush_seconds_count") == 2
    assert (value("flush_seconds_sum") or 0) > 0


def test_what_happens_outside_of_flushes_is_counted(session: Session, value: Value) -> None:
    """bulk_insert and reserve_ids count their rows and ids, but not as flushes."""
    reserve_ids(session, Measured, 7)
    bulk_insert(session, Measured, [{"body": f"s3cret {number}"} for number in range(20)])
    assert value("ids_reserved_total", model="Measured") == 27
    assert value("rows_total", model="Measured", kind="insert", writer="copy") == 20
    assert value("flush_seconds_count") == 0


def test_errors_are_counted(session: Session, value: Value, registry: CollectorRegistry) -> None:
    """Errors are counted by the class of the exception, and no metric contains a row's value."""
    with pytest.raises(InvalidCountError):
        reserve_ids(session, Measured, -1)
    session.add_all(measured(20) + measured(1))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    with pytest.raises(IntegrityError):
        bulk_insert(session, Measured, [{"body": "s3cret"}] * 2)
    assert value("errors_total", error="InvalidCountError") == 1
    assert value("errors_total", error="IntegrityError") == 2
    assert value("rows_total", model="Measured", kind="insert", writer="copy") is None
    assert b"s3cret" not in generate_latest(registry)


def test_close_ends_the_counting(session: Session, registry: CollectorRegistry) -> None:
    """After close() the registry is empty again, and other metrics can use the same names."""
    first = LibraryMetrics(registry)
    first.close()
    assert generate_latest(registry) == b""
    second = LibraryMetrics(registry)
    session.add_all(measured(20))
    session.flush()
    assert (
        registry.get_sample_value(
            "seqreserve_rows_total",
            {
                "model": "Measured",
                "kind": "insert",
                "writer": "copy",
            },
        )
        == 20
    )
    second.close()
