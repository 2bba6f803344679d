"""bulk_upsert with indexes and tables that could be mistaken for others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, Identity, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError

pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Word(Base):
    __tablename__ = "word"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[str]
    value: Mapped[int]


class Token(Base):
    __tablename__ = "token"
    id: Mapped[str] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    code: Mapped[str]
    value: Mapped[int]


class Names(DeclarativeBase):
    pass


def a_class(name: str, **options: Any) -> Any:
    """Make a class whose table has this name."""
    return type(
        name,
        (Names,),
        {
            "__tablename__": name,
            "__table_args__": options,
            "id": mapped_column(Identity(), primary_key=True),
            "value": mapped_column(),
            "__annotations__": {"id": Mapped[int], "value": Mapped[int]},
        },
    )


NAMES = [
    a_class(name)
    for name in ("given", "existing", "numbered", "written", "few", "sent", "anon_1", "known")
]
PARTED = a_class("numbered_parts", postgresql_partition_by="RANGE (id)")


@pytest.fixture(params=DRIVERS)
def run(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Callable[..., Any]]:
    """Runs a function with a session on a driver."""
    url = engine.url.set(drivername=f"postgresql+{request.param}")

    async def awaited(function: Callable[[Session], Any]) -> Any:
        made = create_async_engine(url)
        async with AsyncSession(made) as session:
            await session.run_sync(function)
        await made.dispose()

    def sync(function: Callable[[Session], Any]) -> None:
        if request.param == "asyncpg":
            asyncio.run(awaited(function))
            return
        made = create_engine(url)
        with Session(made) as session:
            function(session)
        made.dispose()

    yield sync


def test_names_within_our_statements(engine: Engine, run: Any) -> None:
    """A table may have any name that is used within our statements."""
    Names.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE known_parts PARTITION OF numbered_parts DEFAULT"))

    def scenario(session: Session) -> None:
        for model in (*NAMES, PARTED):
            for shift in (0, 2):
                rows = [{"id": 100 + n, "value": n} for n in range(shift, shift + 4)]
                for returning in (None, "ids", "objects"):
                    done = bulk_upsert(session, model, rows, conflict=["id"], returning=returning)
                    assert done.inserted + done.updated == 4
                assert [item.value for item in done.objects] == [row["value"] for row in rows]
            assert len(bulk_insert(session, model, [{"value": 7}], returning="objects")) == 1

    run(scenario)


def test_without_overlaps(engine: Engine, run: Any) -> None:
    """A constraint WITHOUT OVERLAPS, like a DEFERRABLE one, is refused before anything
    is written.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        version: Any = connection.dialect.server_version_info
        if version < (18,):
            pytest.skip("PostgreSQL 18 has WITHOUT OVERLAPS")
        for column in ("during tsrange DEFAULT '[2024-01-01,2025-01-01)'", "spot int4range"):
            connection.execute(text(f"ALTER TABLE word ADD COLUMN {column}"))
        connection.execute(
            text("ALTER TABLE word ADD CONSTRAINT apart UNIQUE (spot, during WITHOUT OVERLAPS)")
        )

    def scenario(session: Session) -> None:
        with pytest.raises(ConfigurationError, match="apart of .*word is WITHOUT OVERLAPS"):
            bulk_upsert(session, Word, [{"code": "a", "value": 1}], conflict="apart")

    run(scenario)


@pytest.mark.parametrize("is_expression", [False, True], ids=["column", "expression"])
def test_an_index_with_a_collation_of_its_own(
    engine: Engine, run: Any, is_expression: bool
) -> None:
    """Rows are distinguished by the index's collation, not by the column's."""
    Base.metadata.create_all(engine)
    element = "(code || '')" if is_expression else "code"
    with engine.begin() as connection:
        try:
            connection.execute(
                text(
                    "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', "
                    "deterministic = false)"
                )
            )
        except DBAPIError:
            pytest.skip("the server has no ICU, so no collation for which other texts are equal")
        for table in ("word", "token"):
            connection.execute(
                text(f"CREATE UNIQUE INDEX {table}_code ON {table} ({element} COLLATE nocase)")
            )

    def scenario(session: Session) -> None:
        for model in (Word, Token):
            index = f"{model.__tablename__}_code" if is_expression else ["code"]
            bulk_insert(session, model, [{"code": code, "value": 0} for code in ("Ann", "Bob")])
            rows = [{"code": code, "value": 1} for code in ("cid", "ANN", "bob")]
            if is_expression and model is Token:
                done = bulk_upsert(session, model, rows, conflict=index)
            else:
                done = bulk_upsert(session, model, rows, conflict=index, returning="ids")
                found = dict(map(tuple, session.execute(select(model.id, model.code))))
                assert [found[key].lower() for key in done.ids] == ["cid", "ann", "bob"]
            assert (done.inserted, done.updated) == (1, 2)
            with pytest.raises(InvalidRowsError, match="row 1, .*code.*same row as row 0"):
                twice = [{"code": code, "value": 1} for code in ("dan", "DAN")]
                bulk_upsert(session, model, twice, conflict=index)

    run(scenario)
