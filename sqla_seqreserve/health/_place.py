"""The database that an answer is about: its name and host, and never the user or credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ._connection import Bind, group_by_connection, plain_connection
from ._source import targets_of

_NAME = text("SELECT current_database(), host(inet_server_addr()), inet_server_port()")


@dataclass(frozen=True, slots=True)
class Place:
    """A database and its server. ``host`` is the host in the application's URL, or else the
    server's own address; None: a socket of this machine.
    """

    name: str
    host: str | None
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{self.name} on {host or 'this machine'}" + (f":{self.port}" if self.port else "")


def places_of(session: Bind, source: Any) -> list[Place]:
    """Return the databases that the session uses for the source, each once."""
    if source is None:
        connections = [plain_connection(session)]
    else:
        connections = [c for c, _ in group_by_connection(session, targets_of(source))]
    return list(dict.fromkeys(map(_place, connections)))


def _place(connection: Connection) -> Place:
    name, address, port = connection.execute(_NAME).one()
    url = connection.engine.url
    host = url.host or _given(url.query.get("host"))
    # A path is the folder of a socket, and the address one inside a container perhaps.
    host = (host or address) if not (host or "").startswith(("/", "@")) else None
    return Place(name=name, host=host, port=url.port or port if host else None)


def _given(value: str | tuple[str, ...] | None) -> str | None:
    return ", ".join(value) if isinstance(value, tuple) else value
