"""Finds the address in a database URL, and makes the same URL through a relay."""

from __future__ import annotations

import socket

from sqlalchemy import URL, make_url

from ..errors import ConfigurationError
from .relay import Address, connect


def server_address(url: URL | str) -> Address:
    """The server's address.

    :raises ConfigurationError: the URL is not PostgreSQL's, or no server answers there.
    """
    given = make_url(url)
    if given.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"{given}: expected a postgresql:// URL, for only PostgreSQL's protocol is relayed"
        )
    host = given.host or _one(given, "host") or "127.0.0.1"
    port = given.port or int(_one(given, "port") or 5432)
    address: Address = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
    try:
        answering: socket.socket = connect(address)
    except OSError as error:
        raise ConfigurationError(f"{given}: no server answers at {address}: {error}") from error
    answering.close()
    return address


def _one(url: URL, key: str) -> str:
    value = url.query.get(key, "")
    return value if isinstance(value, str) else value[0]


def by_way_of(port: int, url: URL | str) -> URL:
    """The same database and user, reached through a relay on that port of 127.0.0.1."""
    return make_url(url).difference_update_query(["host", "port"]).set(host="127.0.0.1", port=port)
