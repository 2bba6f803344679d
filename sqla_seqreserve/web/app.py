"""``health_app``: the health page of any database, as an application of its own.

::

    app = health_app("postgresql+psycopg://readonly@db.example/shop", authorise=signed_in)
    app = health_app(engine, Base, token=secrets.token_urlsafe())

It needs the extra ``[web]`` and the database's driver, and knows no models but those that it is
given. An existing application includes :func:`~sqla_seqreserve.web.system_router` instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from os import PathLike
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker

from .._database_url import postgresql_url
from ..errors import ConfigurationError
from ._sessions import Dependency
from ._token import TokenGate
from .system import system_router

__all__ = ["bare_app", "dependency_of", "engine_of", "factory_on", "health_app"]


def health_app(
    database: str | URL | Engine | AsyncEngine,
    source: Any = None,
    *,
    schemas: Sequence[str] | None = None,
    token: str | None = None,
    authorise: Dependency | None = None,
    authorise_repair: Dependency | None = None,
    trusted_origins: Collection[str] = (),
    history: str | PathLike[str] | None = None,
) -> FastAPI:
    """Return the application: ``/`` leads to the page; the paths are :func:`.system_router`'s.

    :param database: an engine, which stays the caller's to dispose of; or a URL, with psycopg
        where it names no driver.
    :param source: a declarative base, registry, ``MetaData`` or mapped classes; None: every
        sequence of the database.
    :param schemas: with ``source=None``, the schemas to look into; None: all but the system's.
    :param token: a secret that gives access: by ``/?token=...``, or as ``Authorization: Bearer``.
    :param authorise: instead of the token, a dependency that raises for users without access.
    :param authorise_repair: this and the other parameters are those of :func:`.system_router`.
    :raises ConfigurationError: an argument that cannot be used, and what to give instead
    :raises UnsupportedDatabaseError: the database is not PostgreSQL
    """
    gate = None
    if token and authorise is None:
        gate = TokenGate(token)
        authorise = gate.authorise
    elif token is not None or authorise is None:
        raise ConfigurationError(
            "health_app: expected either token, a text that is not empty, or authorise, a "
            "dependency: one of them says who may come in"
        )
    engine = engine_of(database)
    app = bare_app(engine.dispose if engine is not database else None)
    app.include_router(
        system_router(
            dependency_of(factory_on(engine)),
            source,
            schemas=schemas,
            authorise=authorise,
            authorise_repair=authorise_repair,
            trusted_origins=trusted_origins,
            history=history,
        )
    )
    if gate is not None:
        gate.add_to(app)
    else:

        @app.get("/", include_in_schema=False)
        def enter() -> RedirectResponse:
            return RedirectResponse("system/sequences", status_code=303)

    return app


def bare_app(dispose: Callable[[], Awaitable[None] | None] | None = None) -> FastAPI:
    """Return an application without paths, which disposes of its engine when it ends.

    FastAPI's own pages of documentation load their scripts from elsewhere, so it has none.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if dispose is not None and (waiting := await run_in_threadpool(dispose)) is not None:
            await waiting

    return FastAPI(
        title="sqla-seqreserve", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )


def engine_of(database: str | URL | Engine | AsyncEngine) -> Engine | AsyncEngine:
    """Return the engine, or one made of the URL: synchronous where the driver can be."""
    if isinstance(database, Engine | AsyncEngine):
        return database
    if not isinstance(database, str | URL):
        raise ConfigurationError(
            f"database: expected a URL or an engine, got {type(database).__name__}"
        )
    url = postgresql_url(database, "database")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        make = create_async_engine if url.get_dialect().is_async else create_engine
        # Usually there is one check at a time; never use a connection that a restart has closed.
        engine: Engine | AsyncEngine = make(url, pool_pre_ping=True, pool_size=1)
    except NoSuchModuleError as error:
        raise ConfigurationError(f"database: SQLAlchemy knows no {url.drivername}") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"database: {url.drivername} needs {error.name}, which is not installed"
        ) from error
    return engine


Sessions: TypeAlias = sessionmaker[Session] | async_sessionmaker[AsyncSession]


def factory_on(engine: Engine | AsyncEngine) -> Sessions:
    """Return a factory of sessions on the engine."""
    return async_sessionmaker(engine) if isinstance(engine, AsyncEngine) else sessionmaker(engine)


def dependency_of(sessions: Sessions) -> Dependency:
    """Return a dependency that gives each request a session of the factory's."""
    if isinstance(sessions, async_sessionmaker):

        async def async_session() -> AsyncIterator[AsyncSession]:
            async with sessions() as session:
                yield session

        return async_session

    def session() -> Iterator[Session]:
        with sessions() as session:
            yield session

    return session
