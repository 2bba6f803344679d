"""The request's session, synchronous or not: checks the dependency that gives it, and runs work on
the session without delaying other requests.

A synchronous session works in a thread, as FastAPI runs a plain ``def``; the work on an
``AsyncSession`` runs on the event loop between its round trips.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from fastapi.concurrency import run_in_threadpool
from fastapi.params import Depends
from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from ..errors import ConfigurationError
from ..health._source import targets_of

AnySession: TypeAlias = Session | AsyncSession
Dependency = Callable[..., Any]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ASYNC = """
    async def session():
        async with {factory}() as session:
            yield session
"""
_SYNC = """
    def session():
        with {factory}() as session:
            yield session
"""
_UNMANAGED = "leave out @contextmanager or @asynccontextmanager: FastAPI enters it itself"


def checked_dependency(name: str, given: Any) -> Dependency:
    """Return the dependency, or raise an error that says what to write instead."""
    if isinstance(given, Depends):
        raise ConfigurationError(
            f"{name}: expected the function itself, got Depends(...); write {name}=... without it"
        )
    if isinstance(given, Engine | AsyncEngine | Connection | AsyncConnection):
        raise ConfigurationError(
            f"{name}: expected a function that yields a session, got {type(given).__name__}; "
            "sqla_seqreserve.web.health_app(engine, ...) makes an application of an engine"
        )
    kinds: tuple[tuple[tuple[type, ...], str, str], ...] = (
        ((async_sessionmaker, async_scoped_session, AsyncSession), _ASYNC, "async_sessionmaker"),
        ((sessionmaker, scoped_session, Session), _SYNC, "sessionmaker"),
    )
    for types, example, factory in kinds:
        if isinstance(given, types) or (isinstance(given, type) and issubclass(given, types)):
            found = given.__name__ if isinstance(given, type) else type(given).__name__
            raise ConfigurationError(
                f"{name}: expected a function that yields a session of the request's own and "
                f"closes it, got {found}; write for example\n"
                + example.format(factory=f"{factory}(engine)" if found != factory else "sessions")
            )
    code = getattr(given, "__code__", None)
    if code is not None and code.co_filename == contextlib.__file__:
        raise ConfigurationError(f"{name}: {_UNMANAGED}")
    if not callable(given) or isinstance(given, type):
        raise ConfigurationError(f"{name}: expected a dependency, got {given!r}")
    dependency: Dependency = given
    return dependency


def checked_source(source: Any, schemas: Sequence[str] | None) -> Any:
    """Return the source, which can be read many times; or raise an error that says what is wrong
    with it or the schemas."""
    if isinstance(schemas, str):
        raise ConfigurationError(f"schemas: expected a sequence of names, got the name {schemas!r}")
    if source is not None and schemas is not None:
        raise ConfigurationError(
            "schemas narrows the whole database (source=None); models name their own"
        )
    if isinstance(source, Iterator):
        source = list(source)
    if source is not None:
        targets_of(source)
    return source


async def on(
    session: Any,
    work: Callable[Concatenate[Session, _P], _T],
    *args: _P.args,
    **options: _P.kwargs,
) -> _T:
    """Run the work on the synchronous side of the session that the dependency gave."""
    if isinstance(session, AsyncSession):
        return await session.run_sync(work, *args, **options)
    if isinstance(session, Session):
        return await run_in_threadpool(work, session, *args, **options)
    found = type(session).__name__
    remedy = "yield an AsyncSession or a Session"
    if isinstance(session, scoped_session | async_scoped_session):
        # Each thread of a request would get a session of its own.
        remedy += " that no scope shares, such as one of its session_factory"
    elif "ContextManager" in found:
        remedy = _UNMANAGED
    raise ConfigurationError(f"the session dependency gave {found}: {remedy}")


@contextlib.asynccontextmanager
async def committing(session: Any) -> AsyncIterator[None]:
    """Commit at the end of the block, or roll back if it failed.

    The dependency that made the session ends only after the answer, which is too late to report
    that a deferred constraint refused the commit.
    """
    try:
        yield
        await on(session, Session.commit)
    except BaseException:
        await on(session, Session.rollback)
        raise
