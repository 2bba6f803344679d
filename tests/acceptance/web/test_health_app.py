"""The health page of any database, as an application of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fixtures.portal import by_role, client_of, everybody
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Engine,
    MetaData,
    Table,
    create_engine,
    make_url,
    text,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from sqla_seqreserve.embedded import embedded_postgres
from sqla_seqreserve.errors import ConfigurationError, SeqReserveError, UnmappedClassError
from sqla_seqreserve.web import health_app, system_router

HEALTH = "/system/sequence-health"
STATE = "/system/sequences/state"
PATHS = ["/", HEALTH, "/system/sequences", STATE, "/system/sequences/may-repair"]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


ORDERS_ALONE = MetaData()
Table("orders", ORDERS_ALONE, Column("id", BigInteger, primary_key=True))


@pytest.fixture
def shop(database_url: str) -> Iterator[Engine]:
    """Orders, behind by 5; invoices in a schema of their own."""
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE orders (id bigserial PRIMARY KEY)",
            "INSERT INTO orders (id) VALUES (5)",
            "CREATE SCHEMA billing CREATE TABLE invoices (id bigserial PRIMARY KEY)",
        ):
            connection.execute(text(statement))
    yield engine
    engine.dispose()


def tables(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["table"] for entry in answer.json()["sequences"]]


@pytest.mark.parametrize("kind", ["url", "text", "engine", "asyncio engine"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
async def test_any_database_on_any_driver(shop: Engine, driver: str, kind: str) -> None:
    """health_app works with an engine or a URL, on each driver, for checks and repairs."""
    url = shop.url.set(drivername=f"postgresql+{driver}")
    database: Any = url
    if kind == "text":
        database = url.render_as_string(hide_password=False)
    elif kind == "engine" and driver != "asyncpg":
        database = create_engine(url, poolclass=NullPool)
    elif kind == "asyncio engine" and driver != "psycopg2":
        database = create_async_engine(url, poolclass=NullPool)
    app = health_app(database, authorise=everybody)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert tables(await client.get(HEALTH)) == ["billing.invoices", "orders"]
        assert (await client.get(HEALTH)).json()["overall_health"] == "UNHEALTHY"
        repaired = await client.post("/system/repair-sequences")
        assert repaired.json()["sequences_repaired"] == 1
        assert (await client.get(HEALTH)).json()["overall_health"] == "HEALTHY"


@pytest.mark.parametrize(
    ("source", "schemas", "expected"),
    [
        (None, None, ["billing.invoices", "orders"]),
        (None, ["billing"], ["billing.invoices"]),
        (Base, None, ["orders"]),
        (ORDERS_ALONE, None, ["orders"]),
        (iter([Order]), None, ["orders"]),
    ],
)
async def test_the_source_is_what_is_shown(
    shop: Engine, source: Any, schemas: list[str] | None, expected: list[str]
) -> None:
    """The page shows all sequences, a schema's, or those of models, as its source says."""
    async with client_of(health_app(shop, source, schemas=schemas, authorise=everybody)) as client:
        for path in (HEALTH, STATE, STATE):
            assert tables(await client.get(path)) == expected


async def test_an_engine_that_was_given_stays_open(shop: Engine) -> None:
    """The application disposes of an engine that it made, and of no engine that it was given."""
    engine = create_engine(shop.url)
    app = health_app(engine, authorise=everybody)
    async with app.router.lifespan_context(app), client_of(app) as client:
        await client.get(HEALTH)
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool
    engine.dispose()


async def test_the_token_lets_in(shop: Engine) -> None:
    """The token gives access in the URL, which sets a cookie, or as a bearer token; nothing else
    does.
    """
    app = health_app(shop, token="secret")
    async with client_of(app) as client:
        for path in PATHS:
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/", params={"token": "guess"})).status_code == 401
        bearer = {"Authorization": "Bearer secret"}
        assert (await client.get(HEALTH, headers=bearer)).status_code == 200
        page = await client.get("/", params={"token": "secret"}, follow_redirects=True)
        assert "<title>Sequences</title>" in page.text
        assert "secret" not in str(page.url)
        assert (await client.get(HEALTH)).status_code == 200


async def test_it_works_below_another_application(shop: Engine) -> None:
    """Mounted under a path of another application, its ``/`` redirects to the page there."""
    outer = FastAPI()
    outer.mount("/sequences-of/shop", health_app(shop, token="secret"))
    async with client_of(outer) as client:
        entered = await client.get(
            "/sequences-of/shop/", params={"token": "secret"}, follow_redirects=True
        )
        assert entered.url.path == "/sequences-of/shop/system/sequences"
        assert entered.status_code == 200


async def test_authorisation_of_the_callers(shop: Engine) -> None:
    """A dependency instead of the token guards every path, and another one guards repairs."""
    app = health_app(shop, authorise=by_role("viewer"), authorise_repair=by_role("admin"))
    async with client_of(app) as client:
        for path in PATHS[1:]:
            assert (await client.get(path)).status_code == 403
        viewer = {"X-Roles": "viewer"}
        assert (await client.get(HEALTH, headers=viewer)).status_code == 200
        assert (await client.post("/system/repair-sequences", headers=viewer)).status_code == 403


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigurationError, "either token"),
        ({"token": ""}, ConfigurationError, "not empty"),
        ({"token": "a", "authorise": everybody}, ConfigurationError, "either token"),
        ({"database": 5, "token": "a"}, ConfigurationError, "expected a URL or an engine, got int"),
        ({"database": "postgresql//u:pass-word@h", "token": "a"}, ConfigurationError, "parsed"),
        ({"database": "postgresql://u:pass-word@[::1", "token": "a"}, ConfigurationError, "parsed"),
        ({"database": "mysql://u:pass-word@h/d", "token": "a"}, SeqReserveError, "got mysql"),
        ({"database": "postgresql+no://u:pass-word@h", "token": "a"}, ConfigurationError, "no"),
        ({"source": 5, "token": "a"}, UnmappedClassError, "no source of sequences"),
        ({"source": Base, "schemas": ["x"], "token": "a"}, ConfigurationError, "schemas narrows"),
        ({"schemas": "billing", "token": "a"}, ConfigurationError, "sequence of names"),
    ],
)
def test_what_it_cannot_use_is_said_at_once(
    shop: Engine, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """health_app refuses a wrong argument by name, and repeats no password."""
    with pytest.raises(error, match=message) as raised:
        health_app(**{"database": shop, **arguments})
    assert "pass-word" not in str(raised.value)


@pytest.fixture(scope="module")
def network_url() -> Iterator[URL]:
    """A server that is reached by its address, with a password."""
    with embedded_postgres(transport="loopback", fsync=False) as server:
        yield make_url(server.url)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("given", ["URL", "query", "environment"])
async def test_the_state_names_database_and_host(
    network_url: URL, driver: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page names the database and host, and neither user nor password, however
    these are given.
    """
    url = network_url.set(drivername=f"postgresql+{driver}")
    where = {"host": str(url.host), "port": str(url.port)}
    if given == "query":
        url = url.set(host="", port=None).update_query_dict(where)
    elif given == "environment":
        url = url.set(host="", port=None)
        monkeypatch.setenv("PGHOST", where["host"])
        monkeypatch.setenv("PGPORT", where["port"])
    async with client_of(health_app(url, authorise=everybody)) as client:
        answer = await client.get(STATE)
    (place,) = answer.json()["databases"]
    assert place == {"name": url.database, "host": where["host"], "port": int(where["port"])}
    assert str(url.password) not in answer.text
    assert '"user' not in answer.text


async def test_a_socket_is_this_machine(database_url: str) -> None:
    """A database behind a Unix socket is shown without a host, and the socket's folder is not
    shown.
    """
    url = make_url(database_url)
    async with client_of(health_app(url, authorise=everybody)) as client:
        answer = await client.get(STATE)
    (place,) = answer.json()["databases"]
    assert place == {"name": url.database, "host": url.host, "port": url.port}
    assert "socket" not in answer.text


async def test_models_in_two_databases_name_both(
    shop: Engine, clone_database: Callable[[str], str]
) -> None:
    """If a session finds models in several databases, the page names each."""

    class Elsewhere(DeclarativeBase):
        pass

    class Invoice(Elsewhere):
        __tablename__ = "invoices"
        __table_args__ = {"schema": "billing"}
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)

    url = shop.url.render_as_string(hide_password=False)
    other = create_engine(clone_database(url), poolclass=NullPool)

    def session() -> Iterator[Session]:
        with Session(binds={Order: shop, Invoice: other}) as session:
            yield session

    app = FastAPI()
    app.include_router(system_router(session, [Order, Invoice], authorise=everybody))
    async with client_of(app) as client:
        answer = await client.get(STATE)
    assert tables(answer) == ["orders", "billing.invoices"]
    names = [place["name"] for place in answer.json()["databases"]]
    assert names == [shop.url.database, other.url.database]


def test_the_page_needs_no_portfolio() -> None:
    """Neither the portal nor what it computes with is imported by the health page."""
    program = (
        "import sys, sqla_seqreserve.web\n"
        "print(*(n for n in ('numpy', 'scipy', 'factory', 'alembic', 'typer', 'uvicorn', "
        "'sqla_seqreserve.portfolio') if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "origins", ["https://pages.test", ["https://pages.test/"], ["pages.test"], ["*"], [None]]
)
def test_an_origin_that_no_browser_sends_is_refused(database_url: str, origins: Any) -> None:
    """A trusted origin with a path, without a scheme, or a text in place of a list, would trust
    nobody, and is refused when the router is made.
    """
    with pytest.raises(ConfigurationError, match="trusted_origins: expected"):
        health_app(database_url, token="secret", trusted_origins=origins)
