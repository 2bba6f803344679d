"""The database that a command works on: from a URL, a libpq string or the environment, on the
driver that the URL names.

A command runs its work on a synchronous connection. If the URL's driver is asynchronous (asyncpg),
the work runs within an event loop, so that the application's own URL can be used and no second
driver has to be installed. If a URL names no driver, it is the first installed one of psycopg,
psycopg2 and asyncpg.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool

from sqla_seqreserve._database_url import URL_LIKE, postgresql_url
from sqla_seqreserve.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

URL_VARIABLES = ("SQLA_SEQRESERVE_URL", "DATABASE_URL")
_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE", "PGPORT", "PGUSER")
_DRIVERS = ("psycopg", "psycopg2", "asyncpg")

_LIBPQ_LIKE = "host=... dbname=... user=..."
_NO_DATABASE = (
    "no database: give its URL, or set SQLA_SEQRESERVE_URL, DATABASE_URL, or PGHOST and its sisters"
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where to connect, and the arguments beside the URL (the parts of a libpq string)."""

    url: URL
    connect_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether the driver is asynchronous."""
        return bool(self.url.get_dialect().is_async)

    @property
    def place(self) -> tuple[str | None, str | None, str | None]:
        """The database, its host and port, without the user; None: the driver's default."""
        parts = self.connect_args
        environment = os.environ.get
        name = self.url.database or parts.get("dbname") or environment("PGDATABASE")
        host = self.url.host or parts.get("host") or self.url.query.get("host")
        port = self.url.port or parts.get("port")
        if not host:
            host, port = environment("PGHOST"), port or environment("PGPORT")
        elif isinstance(host, tuple):
            host = ", ".join(host)
        return name, host, str(port) if port else None

    def __str__(self) -> str:
        """The database and its host, without the user."""
        name, host, port = self.place
        place = f"{host or 'the default host'}{f':{port}' if port else ''}"
        return f"{name or 'the default database'} on {place}"

    def named(self, name: str) -> Database:
        """Return the database of this name on the same server."""
        if self.url.database is None and "dbname" in self.connect_args:
            return Database(self.url, {**self.connect_args, "dbname": name})
        return Database(self.url.set(database=name), self.connect_args)

    def engine(self) -> Engine | AsyncEngine:
        """Return an engine that keeps a connection, and notices if a restart has closed it."""
        options: dict[str, Any] = {
            "pool_pre_ping": True,
            "pool_size": 1,
            "connect_args": dict(self.connect_args),
        }
        if self.is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            return create_async_engine(self.url, **options)
        return create_engine(self.url, **options)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` with a new connection, which is closed afterwards, and return its result.

        Each call makes a connection: none is kept to a database that may restart meanwhile.
        """
        if self.is_async:
            return asyncio.run(self._run_in_loop(work))
        engine = create_engine(self.url, poolclass=NullPool, connect_args=dict(self.connect_args))
        with engine.connect() as connection:
            return work(connection)

    async def _run_in_loop(self, work: Callable[[Connection], T]) -> T:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(
            self.url, poolclass=NullPool, connect_args=dict(self.connect_args)
        )
        async with engine.connect() as connection:
            return await connection.run_sync(work)


def is_database(text: str) -> bool:
    """Whether a command's target is a URL or a libpq string, and not ``module:Base``."""
    return "://" in text or "=" in text


def find_database(given: str | None) -> Database:
    """Return the given database, or that of the environment if none is given.

    :raises ConfigurationError: there is none, or it cannot be read
    """
    variable = None
    if not given:
        variable = next(filter(os.environ.get, URL_VARIABLES), None)
        given = os.environ[variable] if variable is not None else None
    if given:
        if not is_database(given):
            # It may be a password that was set by mistake: it is not repeated.
            raise ConfigurationError(
                f"{variable or 'the database'} is neither a URL nor a libpq string: expected "
                f"{URL_LIKE}, or {_LIBPQ_LIKE}"
            )
        return _of_url(given) if "://" in given else _of_libpq(given)
    if not any(map(os.environ.get, _PG_VARIABLES)):
        raise ConfigurationError(_NO_DATABASE)
    # libpq reads its variables itself.
    driver = _installed_driver()
    return Database(URL.create(f"postgresql+{driver}"))


def url_of(given: str) -> URL:
    """Return the URL with a driver in it."""
    url = postgresql_url(given, "the database")
    if url.drivername == "postgresql":
        url = url.set(drivername=f"postgresql+{_installed_driver()}")
    try:
        url.get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        raise ConfigurationError(f"{url.drivername} is no driver that SQLAlchemy knows") from error
    except ImportError as error:
        raise _driver_missing(url.get_driver_name(), error) from error
    return url


def _of_url(given: str) -> Database:
    try:
        return Database(url_of(given))
    except ConfigurationError:
        # libpq's URLs may name several hosts with their ports, which SQLAlchemy cannot read.
        if "," not in given or not given.startswith(("postgresql://", "postgres://")):
            raise
        return _of_libpq(given)


def _of_libpq(given: str) -> Database:
    """Parse ``host=db.example dbname=shop``, as psql accepts it."""
    driver = _installed_driver()
    if driver == "psycopg2":
        url = URL.create("postgresql+psycopg2")
        parse = import_module("psycopg2.extensions").parse_dsn
    elif driver == "psycopg":
        url = URL.create("postgresql+psycopg")
        parse = import_module("psycopg.conninfo").conninfo_to_dict
    else:
        raise ConfigurationError(
            "a libpq string needs psycopg or psycopg2, and neither is installed: give a URL"
        )
    try:
        parts: dict[str, Any] = parse(given)
    except Exception as error:
        # The driver's message may repeat a part that holds the password.
        raise ConfigurationError(
            f"the libpq string cannot be parsed: expected {_LIBPQ_LIKE}"
        ) from error
    return Database(url, parts)


def _installed_driver() -> str:
    problems: list[ImportError] = []
    for driver in _DRIVERS:
        try:
            import_module(driver)
        except ImportError as error:
            problems.append(error)
        else:
            return driver
    raise _driver_missing(_DRIVERS[0], problems[0]) from problems[0]


def _driver_missing(driver: str, error: ImportError) -> ConfigurationError:
    packages = {
        "psycopg": 'pip install "sqla-seqreserve[binary]"',
        "psycopg2": "pip install psycopg2-binary",
        "asyncpg": "pip install asyncpg greenlet",
    }
    reason = str(error).partition("\n")[0]
    remedy = packages.get(driver.removesuffix("_async"), f"pip install {driver}")
    return ConfigurationError(f"{driver} cannot be imported ({reason}): {remedy}")
