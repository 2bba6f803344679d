"""Sessions of one kind on one driver, with one interface for synchronous and asynchronous drivers.

On an asynchronous driver the work runs in ``AsyncSession.run_sync()``: the same calls, each waiting
in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import register

from .ways.clock import Clock

__all__ = ["PlainSessions", "Sessions", "open_sessions"]

_T = TypeVar("_T")


class Sessions(Protocol):
    """Makes sessions of one kind, on an engine of their own with a pooled connection."""

    def run(self, work: Callable[[Session], _T]) -> _T:
        """What the work returns, done in a new session that is closed afterwards."""

    def timed(self, work: Callable[[Session], object]) -> float:
        """Seconds from making a session to the end of the work in it."""


class PlainSessions:
    """Sessions of a synchronous driver."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def run(self, work: Callable[[Session], _T]) -> _T:
        with self._sessions() as session:
            return work(session)

    def timed(self, work: Callable[[Session], object]) -> float:
        clock = Clock()
        with self._sessions() as session:
            work(session)
            return clock.seconds()


class _Awaited:
    def __init__(self, sessions: Any, await_: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._sessions = sessions
        self._await = await_

    def run(self, work: Callable[[Session], _T]) -> _T:
        async def run() -> _T:
            async with self._sessions() as session:
                found: _T = await session.run_sync(work)
                return found

        result: _T = self._await(run())
        return result

    def timed(self, work: Callable[[Session], object]) -> float:
        async def timed() -> float:
            clock = Clock()
            async with self._sessions() as session:
                await session.run_sync(work)
                return clock.seconds()

        seconds: float = self._await(timed())
        return seconds


def open_sessions(
    url: URL, driver: str, closing: ExitStack, ours: Mapping[str, Any] | None = None
) -> Sessions:
    """Sessions on a new engine.

    :param driver: one of :data:`~sqla_seqreserve.bench.drivers.DRIVERS`.
    :param closing: the stack that closes them afterwards.
    :param ours: register them, with these options; ``None``: plain SQLAlchemy.
    """
    url = url.set(drivername=f"postgresql+{driver}")
    made: Any
    sessions: Sessions
    if driver == "asyncpg":
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

        runner = closing.enter_context(asyncio.Runner())
        async_engine = create_async_engine(url)
        closing.callback(lambda: runner.run(async_engine.dispose()))
        made = async_sessionmaker(async_engine)
        sessions = _Awaited(made, runner.run)
    else:
        engine = create_engine(url)
        closing.callback(engine.dispose)
        made = sessionmaker(engine)
        sessions = PlainSessions(made)
    if ours is not None:
        closing.callback(register(made, **ours).unregister)
    return sessions
