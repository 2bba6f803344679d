"""The kinds of session that a router takes, and the errors for others."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fixtures.portal import client_of, everybody, portal
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_seqreserve.errors import ConfigurationError, UnmappedClassError
from sqla_seqreserve.portfolio.base import Base
from sqla_seqreserve.web import system_router

BULK = "/holding_activity_logs/bulk"
ACTIVITY = {
    "product_id": 1,
    "portfolio_fund_id": 1,
    "activity_type": "Investment",
    "activity_timestamp": "2024-05-17",
    "amount": "2500.10",
}
NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:9/none"


def execute(engine: Engine, statement: str) -> Any:
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
async def test_a_synchronous_session_does_all(
    portfolio_url: str, holding: Engine, driver: str
) -> None:
    """Checking, repairing and saving work on a synchronous session as on an asynchronous one."""
    execute(holding, "INSERT INTO portfolios (id, portfolio_name) VALUES (6, 'Late')")
    url = make_url(portfolio_url).set(drivername=f"postgresql+{driver}")
    with portal(url, synchronous=True) as app:
        async with client_of(app) as client:
            for path in ("/system/sequence-health", "/system/sequences/state"):
                found = (await client.get(path)).json()
                assert (found["total_sequences"], found["healthy_sequences"]) == (8, 7)
            dry = (await client.post("/system/repair-sequences?dry_run=true")).json()
            assert dry["sequences_repaired"] == 0
            done = (await client.post("/system/repair-sequences")).json()
            assert done["sequences_repaired"] == 1
            saved = await client.post(BULK, json=[ACTIVITY] * 3)
            assert [row["amount"] for row in saved.json()["activities"]] == ["2500.10"] * 3
            refused = await client.post(BULK, json=[ACTIVITY, {**ACTIVITY, "amount": "x"}])
            assert refused.status_code == 422
    assert execute(holding, "SELECT count(*) FROM holding_activity_log") == 3


async def test_a_synchronous_commit_can_be_refused(portfolio_url: str, holding: Engine) -> None:
    """A constraint checked only at commit refuses before the answer is given."""
    execute(
        holding,
        "ALTER TABLE holding_activity_log ADD CONSTRAINT once UNIQUE (activity_type)"
        " DEFERRABLE INITIALLY DEFERRED",
    )
    with portal(portfolio_url, synchronous=True) as app:
        async with client_of(app) as client:
            assert (await client.post(BULK, json=[ACTIVITY] * 2)).status_code == 409
            assert (await client.post(BULK, json=[ACTIVITY])).status_code == 200
    assert execute(holding, "SELECT count(*) FROM holding_activity_log") == 1


def session() -> Iterator[Session]:
    with Session(create_engine(NOWHERE)) as session:
        yield session


@contextmanager
def managed() -> Iterator[Session]:
    with Session() as session:
        yield session


@asynccontextmanager
async def managed_async() -> AsyncIterator[AsyncSession]:
    async with AsyncSession() as session:
        yield session


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (sessionmaker(create_engine(NOWHERE)), "got sessionmaker; write for example(?s:.)*yield"),
        (scoped_session(sessionmaker()), r"got scoped_session;(?s:.)*with sessionmaker\(engine\)"),
        (
            async_sessionmaker(create_async_engine(NOWHERE)),
            "got async_sessionmaker;(?s:.)*async with sessions(?s:.)*yield",
        ),
        (Session(), "of the request's own and closes it, got Session"),
        (AsyncSession(), "of the request's own and closes it, got AsyncSession"),
        (Session, "got Session; write"),
        (create_engine(NOWHERE), r"got Engine; .*health_app\(engine, ...\)"),
        (create_async_engine(NOWHERE), r"got AsyncEngine; .*health_app\(engine, ...\)"),
        (Depends(session), r"got Depends\(...\); write session=... without it"),
        (managed, "leave out @contextmanager"),
        (managed_async, "leave out @contextmanager or @asynccontextmanager"),
        (Base, "expected a dependency, got <class"),
        (None, "expected a dependency, got None"),
    ],
)
def test_what_is_no_dependency_is_said_at_once(given: Any, message: str) -> None:
    """An argument that is no function that yields a session is refused, with what to
    write instead.
    """
    with pytest.raises(ConfigurationError, match=f"^session: .*{message}"):
        system_router(given, Base, authorise=everybody)


def test_what_is_no_source_is_said_at_once() -> None:
    """A source of a kind that has no sequences is refused when the router is made."""
    with pytest.raises(UnmappedClassError, match="no source of sequences"):
        system_router(session, 5, authorise=everybody)


@pytest.mark.parametrize(
    ("dependency", "reason"),
    [
        (lambda: managed(), "gave _GeneratorContextManager: leave out @contextmanager"),
        (lambda: managed_async(), "gave _AsyncGeneratorContextManager: leave out"),
        (lambda: scoped_session(sessionmaker()), "gave scoped_session: .*that no scope shares"),
        (lambda: create_engine(NOWHERE), "gave Engine: yield an AsyncSession or a Session"),
    ],
)
@pytest.mark.parametrize("path", ["/system/sequence-health", "/system/repair-sequences"])
async def test_a_dependency_that_gives_no_session(
    dependency: Any, reason: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the dependency gives no session, the log says what it gave and should give; the answer
    does not.
    """
    app = FastAPI()
    app.include_router(system_router(dependency, Base, authorise=everybody))
    with caplog.at_level(logging.ERROR, "sqla_seqreserve.web"):
        async with client_of(app) as client:
            answer = await client.request("GET" if path.endswith("health") else "POST", path)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("The application is not set up rightly")
    (record,) = caplog.records
    assert record.exc_info is not None
    with pytest.raises(ConfigurationError, match=f"the session dependency {reason}"):
        raise record.exc_info[1] or AssertionError
