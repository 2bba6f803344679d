"""Where the work is done: a new database with the tables of the benchmarks, and sessions on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast
from uuid import uuid4

from sqlalchemy import URL, Engine, create_engine, make_url

from sqla_seqreserve._wire.far import far_server
from sqla_seqreserve.embedded import EmbeddedServer, embedded_postgres

from .drivers import PSYCOPG, check_driver
from .models import Base
from .sessions import Sessions, open_sessions

__all__ = ["Place", "open_place"]

# A checkpoint would slow down whichever way is running.
_SETTINGS = {"max_wal_size": "4GB", "checkpoint_timeout": "30min"}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A database with the tables in it, as one driver reaches it.

    :attr:`engine` uses psycopg, for work that is not measured; :attr:`ours` and :attr:`plain` are
    on engines of their own, so that no listener of ours is on plain SQLAlchemy's engine.
    :attr:`by_tcp_to_ours`: the server was started for the run, and is reached over TCP.
    """

    url: URL
    engine: Engine
    driver: str
    ours: Sessions
    plain: Sessions
    closing: ExitStack
    by_tcp_to_ours: bool
    _kept: dict[object, Any] = field(default_factory=dict)

    def keep(self, open_: Callable[[Place], _T]) -> _T:
        """What ``open_`` returns, opened once: connecting is not part of the measured time."""
        if open_ not in self._kept:
            self._kept[open_] = open_(self)
        return cast("_T", self._kept[open_])

    def registered(self, **options: Any) -> Sessions:
        """Registered sessions with these options."""
        return open_sessions(self.url, self.driver, self.closing, options)

    def at(self, round_trip_ms: float) -> Place:
        """The same database, with this time added to each round trip."""
        if not round_trip_ms:
            return self
        if round_trip_ms not in self._kept:
            url = self.closing.enter_context(far_server(self.url, round_trip_ms / 1000))
            self._kept[round_trip_ms] = self._reached(url, self.driver)
        return cast("Place", self._kept[round_trip_ms])

    def on(self, driver: str) -> Place:
        """The same database by another driver."""
        if driver == self.driver:
            return self
        if driver not in self._kept:
            self._kept[driver] = self._reached(self.url, driver)
        return cast("Place", self._kept[driver])

    def by_socket(self) -> Place:
        """A database reached by a Unix socket, on a server that is started for it; this one, if
        the server was not started for the run, or is reached so already.
        """
        return self.keep(_open_by_socket) if self.by_tcp_to_ours else self

    def _reached(self, url: URL, driver: str) -> Place:
        check_driver(driver)
        ours = open_sessions(url, driver, self.closing, {})
        plain = open_sessions(url, driver, self.closing)
        return replace(self, url=url, driver=driver, ours=ours, plain=plain, _kept={})


def _open_by_socket(place: Place) -> Place:
    return place.closing.enter_context(open_place(driver=place.driver, transport="socket"))


@contextmanager
def open_place(
    url: URL | str | None = None,
    *,
    driver: str = PSYCOPG,
    transport: Literal["loopback", "socket"] = "loopback",
) -> Iterator[Place]:
    """A new database with the tables of the benchmarks, dropped at the end.

    :param url: a server on which databases may be created; ``None``: one of our own, or the one
        that ``SQLA_SEQRESERVE_URL`` names.
    :param driver: what the sessions use.
    :param transport: how our own server is reached: over TCP, as applications reach theirs, or by
        its Unix socket.
    :raises ConfigurationError: there is no such driver.
    """
    check_driver(driver)
    with ExitStack() as closing:
        if url is None:
            server = closing.enter_context(
                embedded_postgres(transport=transport, settings=_SETTINGS)
            )
        else:
            server = EmbeddedServer(make_url(url).set(drivername="postgresql+psycopg"))
        name = f"seqreserve_bench_{uuid4().hex[:12]}"
        database = make_url(server.create_database(name))
        closing.callback(server.drop_database, name)
        engine = create_engine(database)
        closing.callback(engine.dispose)
        Base.metadata.create_all(engine)
        yield Place(
            database,
            engine,
            driver,
            open_sessions(database, driver, closing, {}),
            open_sessions(database, driver, closing),
            closing,
            by_tcp_to_ours=server.started and transport == "loopback",
        )
