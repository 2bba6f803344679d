"""Reads the URL of a PostgreSQL database that a user gives."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from .errors import ConfigurationError, UnsupportedDatabaseError

URL_LIKE = "postgresql://user:password@host:port/database"


def postgresql_url(given: str | URL, what: str) -> URL:
    """Return the URL. If it names no driver, its ``drivername`` is ``postgresql``.

    :param what: what the URL is given for, as errors name it.
    :raises ConfigurationError: it cannot be parsed.
    :raises UnsupportedDatabaseError: the database is not PostgreSQL.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        # The message repeats the URL, and with it the password.
        raise ConfigurationError(
            f"{what}: the URL cannot be parsed. Expected {URL_LIKE}, with special characters "
            "written as %40"
        ) from (error.__cause__ if isinstance(error, ArgumentError) else None)
    if url.drivername == "postgres":
        url = url.set(drivername="postgresql")
    backend = url.get_backend_name()
    if backend != "postgresql":
        raise UnsupportedDatabaseError(
            f"{what}: expected a URL of PostgreSQL, postgresql://..., got {backend}'s"
        )
    return url
