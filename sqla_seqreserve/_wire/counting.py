"""Counts round trips where they happen: between a client and its server.

The statements that a test records show what SQLAlchemy passed to the driver, but not how often the
driver waited for the server: psycopg and psycopg2 send ``BEGIN`` by themselves, asyncpg prepares,
COPY waits for "go on", several statements may travel together. A relay between client and server
sees it for every driver, synchronous or not.

A round trip begins with the first message that a client sends after the server's answer to its
earlier messages. A client may also send more without waiting for the answer. To distinguish the
two, answers are held while a count runs, until the client has been silent for :data:`PATIENCE`
seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from sqlalchemy import URL

from .address import by_way_of, server_address
from .protocol import Conversation, WireMessage
from .relay import Relay

PATIENCE: Final = 0.02


class RoundTripCount:
    """The messages sent during a ``with`` block of :meth:`Wire.counting`. As text it lists the
    messages, each with the number of its round trip.
    """

    def __init__(self) -> None:
        self.connections = 0
        self._messages: list[WireMessage] = []
        self._trips: set[tuple[int, int]] = set()

    @property
    def round_trips(self) -> int:
        """How often a client waited for the server, over all connections."""
        return len(self._trips)

    @property
    def messages(self) -> tuple[WireMessage, ...]:
        """The clients' messages, in the order in which they were sent."""
        return tuple(self._messages)

    def __str__(self) -> str:
        numbers: dict[tuple[int, int], int] = {}
        lines = [f"{self.round_trips} round trips"]
        for message in self._messages:
            trip = (message.connection, message.round_trip)
            number = numbers.setdefault(trip, len(numbers) + 1) if message.round_trip else ""
            lines.append(f"{number:>3} {message}")
        return "\n".join(lines)

    __repr__ = __str__

    def _keep(self, message: WireMessage) -> None:
        if message.round_trip:
            self._trips.add((message.connection, message.round_trip))
        last = self._messages[-1] if self._messages else None
        if message.name == "CopyData" and last is not None and _same_trip(last, message):
            self._messages[-1] = WireMessage(
                message.connection, message.round_trip, "CopyData", _sum(last.text, message.text)
            )
        else:
            self._messages.append(message)


def _same_trip(last: WireMessage, message: WireMessage) -> bool:
    return (last.name, last.connection, last.round_trip) == (
        message.name,
        message.connection,
        message.round_trip,
    )


def _sum(one: str, other: str) -> str:
    total = sum(int(text.partition(" ")[0].replace(",", "")) for text in (one, other))
    return f"{total:,} bytes"


class Wire:
    """The relay of one :func:`round_trips`.

    :attr:`url` is the database's URL through the relay, with the driver of the given URL;
    ``wire.url.set(drivername="postgresql+asyncpg")`` is the URL for another driver.
    """

    def __init__(self, url: URL | str, round_trip_time: float) -> None:
        self._lock = threading.Lock()
        self._connections = 0
        self._all = RoundTripCount()
        self._counts = [self._all]
        self._relay = Relay(server_address(url), round_trip_time / 2, self._watcher)
        self.url = by_way_of(self._relay.port, url)

    @property
    def messages(self) -> tuple[WireMessage, ...]:
        """All clients' messages so far, including those that set connections up."""
        return self._all.messages

    @contextlib.contextmanager
    def counting(self) -> Iterator[RoundTripCount]:
        """Count during the block. The block must wait for the answers to everything that it sends.

        Messages that set up a connection or an engine (logging in, SQLAlchemy's first queries) are
        counted too, so open the connection before the block unless you want to count them.
        """
        count = RoundTripCount()
        with self._lock:
            self._counts.append(count)
        try:
            yield count
        finally:
            with self._lock:
                # Not remove(), which compares by equality and not by identity.
                self._counts = [each for each in self._counts if each is not count]

    def close(self) -> None:
        """Close all connections."""
        self._relay.close()

    def _watcher(self) -> _Watching:
        with self._lock:
            self._connections += 1
            for count in self._counts:
                count.connections += 1
            return _Watching(self, self._connections)

    def _keep(self, message: WireMessage) -> None:
        with self._lock:
            for count in self._counts:
                count._keep(message)

    @property
    def _patience(self) -> float:
        return PATIENCE if len(self._counts) > 1 else 0.0


class _Watching:
    """The watcher of one connection."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self._conversation = Conversation(number)

    def sent(self, data: bytes) -> None:
        for message in self._conversation.sent(data):
            self._wire._keep(message)

    def delivered(self, data: bytes) -> None:
        self._conversation.delivered(data)

    def refused_encryption(self) -> None:
        self._conversation.refused_encryption()

    @property
    def patience(self) -> float:
        return self._wire._patience


@contextlib.contextmanager
def round_trips(url: URL | str, *, round_trip_time: float = 0.0) -> Iterator[Wire]:
    """Relay a database during the block, and count the messages.

    ::

        with round_trips(url) as wire:
            engine = create_engine(wire.url)
            with Session(engine) as session:
                session.execute(text("SELECT 1"))  # connects
            with wire.counting() as count, Session(engine) as session:
                session.add_all(objects)
                session.commit()
            assert count.round_trips == 2, count
            engine.dispose()

    :param url: the database's URL, with any driver. The relay refuses encryption, which would hide
        the messages; a URL that requires encryption does not connect.
    :param round_trip_time: the seconds to add to each round trip, half of it each way.
    :raises ConfigurationError: the URL is not PostgreSQL's, or no server answers there.
    """
    wire = Wire(url, round_trip_time)
    try:
        yield wire
    finally:
        wire.close()
