"""Reads the messages of PostgreSQL's protocol as far as counting round trips needs it. No I/O.

Source: PostgreSQL's documentation, "Frontend/Backend Protocol", version 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# The names that libpq's PQtrace uses.
_NAMES: Final = {
    b"B": "Bind",
    b"C": "Close",
    b"D": "Describe",
    b"E": "Execute",
    b"F": "FunctionCall",
    b"H": "Flush",
    b"P": "Parse",
    b"Q": "Query",
    b"S": "Sync",
    b"X": "Terminate",
    b"c": "CopyDone",
    b"d": "CopyData",
    b"f": "CopyFail",
    b"p": "AuthenticationResponse",
}
_OF_COPY: Final = frozenset({"CopyData", "CopyDone", "CopyFail"})

_CANCEL: Final = 80877102
_ENCRYPTION_REQUESTS: Final = {80877103: "SSLRequest", 80877104: "GSSENCRequest"}

# NoticeResponse, NotificationResponse, ParameterStatus: no client waits for them.
_UNASKED: Final = b"NAS"
_COPY_IN: Final = b"GW"  # CopyInResponse, CopyBothResponse


@dataclass(frozen=True, slots=True)
class WireMessage:
    """One message of a client.

    :attr:`text` is the SQL of a Query or Parse. For CopyData it is the number of bytes; consecutive
    CopyData messages are one message here. Passwords are not kept.
    :attr:`round_trip` numbers the connection's round trips from 1; 0: it waits for nothing.
    """

    connection: int
    round_trip: int
    name: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.text}".rstrip()


def encryption_request(head: bytes) -> str | None:
    """The name of the request for encryption, if a connection's first 8 bytes are one."""
    if head[:4] != b"\x00\x00\x00\x08":
        return None
    return _ENCRYPTION_REQUESTS.get(int.from_bytes(head[4:8]))


class FrontendReader:
    """Divides the bytes that a client sends into messages, in whatever pieces they arrive."""

    __slots__ = ("_buffer", "_started")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> Iterator[tuple[str, str, int]]:
        """Yield for each complete message its name, its SQL (or an empty text) and its length."""
        buffer = self._buffer
        buffer += data
        position = 0
        while True:
            typed = 1 if self._started else 0
            if len(buffer) - position < typed + 4:
                break
            length = int.from_bytes(buffer[position + typed : position + typed + 4])
            end = position + typed + length
            if len(buffer) < end:
                break
            body = bytes(buffer[position + typed + 4 : end])
            kind = bytes(buffer[position : position + typed])
            yield (*self._message(kind, body), length + typed)
            position = end
        del buffer[:position]

    def _message(self, kind: bytes, body: bytes) -> tuple[str, str]:
        if not kind:
            code = int.from_bytes(body[:4])
            if code in _ENCRYPTION_REQUESTS:
                return _ENCRYPTION_REQUESTS[code], ""
            self._started = True
            return "CancelRequest" if code == _CANCEL else "StartupMessage", ""
        name = _NAMES.get(kind, repr(kind))
        if name == "Query":
            return name, _string(body)
        if name == "Parse":
            return name, _string(body.partition(b"\0")[2])
        return name, ""


def _string(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


class BackendReader:
    """Reads what a server sends, far enough to see for which messages a client may have waited."""

    __slots__ = ("_body_left", "_head", "_kind")

    def __init__(self) -> None:
        self._head = bytearray()
        self._kind = b""
        self._body_left = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the types of the messages that are complete with ``data``."""
        position = 0
        while position < len(data) or (self._kind and not self._body_left):
            if not self._kind:
                take = 5 - len(self._head)
                self._head += data[position : position + take]
                position += take
                if len(self._head) < 5:
                    return
                self._kind = bytes(self._head[:1])
                self._body_left = int.from_bytes(self._head[1:]) - 4
                self._head.clear()
            take = min(self._body_left, len(data) - position)
            self._body_left -= take
            position += take
            if self._body_left:
                return
            kind, self._kind = self._kind, b""
            yield kind


class Conversation:
    """One connection; finds which messages of the client begin a round trip.

    A round trip begins with the first message that the client sends after it received something
    that a client may wait for.
    """

    __slots__ = ("_answered", "_backend", "_copying", "_frontend", "number", "round_trips")

    def __init__(self, number: int) -> None:
        self.number = number
        self.round_trips = 0
        self._frontend = FrontendReader()
        self._backend = BackendReader()
        self._answered = True
        self._copying = False

    def sent(self, data: bytes) -> Iterator[WireMessage]:
        """The messages that are complete with these bytes from the client."""
        for name, text, length in self._frontend.feed(data):
            if name == "Terminate":
                yield WireMessage(self.number, 0, name)
                continue
            # After an error a client may go on sending a COPY that the server no longer reads.
            if self._answered and (self._copying or name not in _OF_COPY):
                self.round_trips += 1
                self._answered = self._copying = False
            yield WireMessage(
                self.number,
                self.round_trips,
                name,
                f"{length - 5:,} bytes" if name == "CopyData" else text,
            )

    def refused_encryption(self) -> None:
        """Called when the client's request for encryption was refused."""
        self._answered = True

    def delivered(self, data: bytes) -> None:
        """Called with bytes that were delivered to the client."""
        for kind in self._backend.feed(data):
            if kind not in _UNASKED:
                self._answered = True
                self._copying = kind in _COPY_IN
