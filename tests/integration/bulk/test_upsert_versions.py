"""bulk_upsert of classes with version counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.bulk_keys import on_driver as on_driver
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, FetchedValue, Identity, Integer, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_upsert

pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class ByServer(Base):
    __tablename__ = "by_server"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    value: Mapped[int]
    xmin: Mapped[int] = mapped_column("xmin", Integer, system=True, server_default=FetchedValue())
    __mapper_args__ = {"version_id_col": xmin, "version_id_generator": False}


@pytest.fixture(autouse=True)
def tables(engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    yield


def stored(session: Session) -> list[tuple[Any, ...]]:
    found = select(Counted.code, Counted.value, Counted.version).order_by(Counted.code)
    return [tuple(row) for row in session.execute(found)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_version_that_is_given_is_written(on_driver: Any, driver: str) -> None:
    """A given version is written to new and existing rows, as by plain INSERT .. ON CONFLICT."""

    def plain(session: Session, rows: list[dict[str, Any]]) -> None:
        new = pg_insert(Counted.__table__)  # type: ignore[arg-type]  # a Table
        changed = {name: new.excluded[name] for name in ("value", "version")}
        session.execute(new.on_conflict_do_update(index_elements=["code"], set_=changed), rows)

    def scenario(session: Session) -> None:
        first = [{"code": n, "value": n, "version": 7 + n} for n in range(4)]
        again = [{"code": n, "value": 9, "version": 20 + n} for n in range(2, 6)]
        with session.begin_nested() as savepoint:
            plain(session, first)
            plain(session, again)
            expected = stored(session)
            savepoint.rollback()
        bulk_upsert(session, Counted, first, conflict=["code"])
        bulk_upsert(session, Counted, again, conflict=["code"])
        assert stored(session) == expected

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_version_that_is_not_to_be_overwritten_is_counted(on_driver: Any, driver: str) -> None:
    """If ``update`` omits the version, the row's version is counted up."""

    def scenario(session: Session) -> None:
        rows = [{"code": 1, "value": 1, "version": 7}]
        for _ in range(2):
            bulk_upsert(session, Counted, rows, conflict=["code"], update=["value"])
        assert stored(session) == [(1, 1, 8)]
        bulk_upsert(session, Counted, [{"code": 1, "value": 2}], conflict=["code"])
        bulk_upsert(session, Counted, [{"code": 2, "value": 2}], conflict=["code"])
        assert stored(session) == [(1, 2, 9), (2, 2, 1)]

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_version_of_the_server(on_driver: Any, driver: str) -> None:
    """A version that the database generates is left to it."""

    def scenario(session: Session) -> None:
        for value in (1, 2):
            rows = [{"code": n, "value": value} for n in range(3)]
            done = bulk_upsert(session, ByServer, rows, conflict=["code"], returning="objects")
        assert [item.value for item in done.objects] == [2] * 3
        done.objects[0].value = 5
        session.flush()

    on_driver(driver, scenario)
