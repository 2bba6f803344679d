"""Implements ``sqla-seqreserve serve`` and ``demo --serve``; imported when they run."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from sqlalchemy import URL, Connection

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.health._columns import require_schemas
from sqla_seqreserve.web import health_app

from ._options import needs_extra
from ._target import Target

console = Console(soft_wrap=True)


def serve_health(target: Target, *, port: int, history: Path | None) -> None:
    """Serve the health page of the command's target, until a signal ends it."""

    def look(connection: Connection) -> None:
        require_schemas(connection, target.schemas)

    # A database that cannot be reached is reported at once, and not only by the page.
    target.database.run(look)
    with _until_signalled():
        _run(
            port,
            lambda token: health_app(
                target.database.engine(),
                target.source,
                schemas=target.schemas,
                history=history,
                token=token,
            ),
        )


def serve_portal(url: URL, port: int) -> None:
    """Serve the portal on a database of its own, until a signal ends it (extra ``[portal]``)."""
    with needs_extra("portal"):
        from sqla_seqreserve.web.loopback import loopback_app
    with _until_signalled():
        _run(port, lambda token: loopback_app(url, token))


@contextlib.contextmanager
def _until_signalled() -> Iterator[None]:
    # uvicorn raises the signal that stopped it again, once it has stopped. By default SIGTERM
    # would then end the process before the embedded server is stopped.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield
    signal.signal(signal.SIGTERM, before)


def _run(port: int, make_app: Callable[[str], FastAPI]) -> None:
    with _listener(port) as listener:
        token = secrets.token_urlsafe(24)
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(token),
                log_level="warning",
                access_log=False,  # it would show the token
                timeout_graceful_shutdown=5,
            )
        )
        address, bound = listener.getsockname()
        console.print(f"http://{address}:{bound}/?token={token}", highlight=False, markup=False)
        # Not Windows' default loop, which psycopg cannot use.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(server.serve(sockets=[listener]))


def _listener(port: int) -> socket.socket:
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigurationError(f"port {port} of 127.0.0.1 is not free: {error}") from error
    return listener
