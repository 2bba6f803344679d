"""A relay on the loopback interface between clients and the server, with or without a delay.

Each connection has one thread, which sleeps until bytes arrive or are due. Only the standard
library is used.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final, Protocol

from .protocol import encryption_request

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

_CHUNK: Final = 256 * 1024
_MOST_WAITING: Final = 64 * 1024 * 1024

# select() fails with a file descriptor beyond this; on Windows their values do not matter.
_SELECTABLE: Final = 1024
_FULL: Final = 0.05


class Watcher(Protocol):
    """Sees everything that passes on one connection; called from the connection's thread."""

    def sent(self, data: bytes) -> None:
        """Called with bytes that the client has sent, before the server gets them."""

    def delivered(self, data: bytes) -> None:
        """Called with bytes just before they are sent to the client."""

    def refused_encryption(self) -> None:
        """Called when the client asked for encryption and was refused."""

    @property
    def patience(self) -> float:
        """The seconds for which a client must have sent nothing before it gets an answer."""


def connect(address: Address) -> socket.socket:
    """A connection to a server.

    :raises OSError: no server answers there.
    """
    if isinstance(address, str):
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(address)
        except BaseException:
            found.close()
            raise
        return found
    found = socket.create_connection(address)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _wait(
    reads: list[socket.socket], writes: list[socket.socket], timeout: float | None = None
) -> list[socket.socket]:
    """Wait until a socket can be read or written, or for so many seconds; return those to read.

    ``select()`` waits for microseconds, where ``poll()`` and ``epoll()`` wait for milliseconds.
    """
    if sys.platform == "win32" or all(s.fileno() < _SELECTABLE for s in (*reads, *writes)):
        return select.select(reads, writes, [], timeout)[0]
    with selectors.PollSelector() as selector:
        for each in {*reads, *writes}:
            events = selectors.EVENT_READ if each in reads else 0
            selector.register(each, events | (selectors.EVENT_WRITE if each in writes else 0))
        ready = selector.select(timeout)
    return [each for each in reads if any(key.fileobj is each for key, _ in ready)]


class Relay:
    """Listens on 127.0.0.1 from its creation until :meth:`close`.

    :param delay: the delay in each direction, in seconds.
    :param watch: makes a watcher for each connection; the connection is not encrypted then.
    :param awake: do not sleep in the last so many seconds before data is due, because a sleeping
        thread wakes dozens of microseconds late.
    """

    def __init__(
        self,
        server: Address,
        delay: float = 0.0,
        watch: Callable[[], Watcher] | None = None,
        *,
        awake: float = 0.0,
    ) -> None:
        self._server = server
        self._delay = delay
        self._awake = awake
        self._watch = watch
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._woken, self._wake = socket.socketpair()
        self._open: dict[_Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection, and return when no thread is left."""
        self._wake.close()
        self._thread.join()
        with self._lock:
            left = dict(self._open)
        for connection, thread in left.items():
            connection.cut()
            thread.join()
        self._listener.close()
        self._woken.close()

    def _accept(self) -> None:
        while True:
            if self._woken in _wait([self._listener, self._woken], []):
                return
            try:
                client, _ = self._listener.accept()
            except OSError:
                # The client has gone already; or this process may open no more files for now.
                _wait([self._woken], [], _FULL)
                continue
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = connect(self._server)
            except OSError:
                client.close()  # as a server that has gone
                continue
            watcher = self._watch() if self._watch is not None else None
            connection = _Connection(client, server, self._delay, self._awake, watcher)
            thread = threading.Thread(target=self._run, args=[connection], daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _run(self, connection: _Connection) -> None:
        try:
            connection.run()
        finally:
            with self._lock:
                del self._open[connection]


class _Piece:
    """Bytes on their way, and the time at which they arrive."""

    __slots__ = ("data", "due", "told")

    def __init__(self, data: bytes, due: float) -> None:
        self.data = data
        self.due = due
        self.told = False


class _Lane:
    """One direction of a connection: the bytes that were read and not yet sent on."""

    __slots__ = ("ended", "shut", "source", "target", "waiting", "waiting_bytes")

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting: deque[_Piece] = deque()
        self.waiting_bytes = 0
        self.ended = False
        self.shut = False

    @property
    def reads(self) -> bool:
        return not self.ended and self.waiting_bytes < _MOST_WAITING

    def keep(self, data: bytes, due: float) -> None:
        self.waiting.append(_Piece(data, due))
        self.waiting_bytes += len(data)

    def send(self) -> bool:
        """Send the oldest piece; return whether the target took all of it."""
        piece = self.waiting[0]
        try:
            taken = self.target.send(piece.data)
        except BlockingIOError:
            return False
        self.waiting_bytes -= taken
        if taken < len(piece.data):
            piece.data = piece.data[taken:]
            return False
        self.waiting.popleft()
        return True

    def shut_if_done(self) -> None:
        if self.ended and not self.waiting and not self.shut:
            self.shut = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


class _Connection:
    """A client's connection, and the relay's connection to the server for it."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        delay: float,
        awake: float,
        watcher: Watcher | None,
    ) -> None:
        self._client = client
        self._server = server
        self._delay = delay
        self._awake = awake
        self._watcher = watcher
        self._out = _Lane(client, server)
        self._back = _Lane(server, client)
        self._last_sent = 0.0
        self._first = watcher is not None

    def cut(self) -> None:
        """End :meth:`run`; may be called from any thread."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Relay until both sides have ended, or one is lost."""
        # If one side is lost, the other side's connection is closed too.
        with self._client, self._server, contextlib.suppress(OSError):
            self._client.setblocking(False)
            self._server.setblocking(False)
            while not (self._out.shut and self._back.shut):
                self._turn()

    def _turn(self) -> None:
        """Send the bytes that are due and read those that have arrived, or wait for either."""
        timeout: float | None = None
        full = []
        lanes = (self._out, self._back)
        for lane in lanes:
            while lane.waiting:
                left = self._due(lane) - monotonic()
                if left > 0:
                    sleep = max(left - self._awake, 0.0)
                    timeout = sleep if timeout is None else min(timeout, sleep)
                    break
                self._tell(lane)
                if not lane.send():
                    full.append(lane.target)
                    break
            lane.shut_if_done()
        sources = [lane.source for lane in lanes if lane.reads]
        if sources or full or timeout is not None:
            readable = _wait(sources, full, timeout)
            for lane in lanes:
                if lane.source in readable:
                    self._read(lane)

    def _due(self, lane: _Lane) -> float:
        due = lane.waiting[0].due
        if lane is self._back and self._watcher is not None:
            return max(due, self._last_sent + self._watcher.patience)
        return due

    def _tell(self, lane: _Lane) -> None:
        # Before it is sent: the client may answer before this thread runs again.
        piece = lane.waiting[0]
        if lane is self._back and self._watcher is not None and not piece.told:
            piece.told = True
            self._watcher.delivered(piece.data)

    def _read(self, lane: _Lane) -> None:
        try:
            data = lane.source.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            lane.ended = True
            return
        watcher = self._watcher
        if watcher is not None and lane is self._out:
            watcher.sent(data)
            self._last_sent = monotonic()
            if self._first and encryption_request(data):
                self._client.send(b"N")
                watcher.refused_encryption()
                return
            self._first = False
        lane.keep(data, monotonic() + self._delay if self._delay else 0.0)
