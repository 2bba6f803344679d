"""What ``sqla-seqreserve serve`` does; imported when the command runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket

import uvicorn
from rich.console import Console
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sqla_seqreserve.embedded import embedded_postgres
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.portfolio.schema import upgrade
from sqla_seqreserve.web.loopback import loopback_app

from ._options import needs_extra

__all__ = ["run_server"]

console = Console(soft_wrap=True)


def run_server(url: str | None, port: int) -> None:
    """Serve until a signal ends it, then stop what was started."""
    # uvicorn raises the signal that stopped it again, once it has stopped. By default SIGTERM
    # would then end the process before the embedded server is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(port))
        database = _database(stack, url)
        token = secrets.token_urlsafe(24)
        server = uvicorn.Server(
            uvicorn.Config(
                loopback_app(database, token),
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


def _database(stack: contextlib.ExitStack, url: str | None) -> URL:
    url = url or os.environ.get("SQLA_SEQRESERVE_URL")
    if url:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            # SQLAlchemy's message repeats the URL, and with it the password.
            raise ConfigurationError("the database URL cannot be parsed") from error.__cause__
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return parsed
    with needs_extra("embedded"):
        server = stack.enter_context(embedded_postgres())
    upgrade(server.url)
    return make_url(server.url)
