"""What ``sqla-seqreserve serve`` does; imported when the command runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.web import health_app

from ._options import needs_extra

__all__ = ["serve_health", "serve_portal"]

console = Console(soft_wrap=True)


def serve_health(
    database: str | URL | Engine | AsyncEngine,
    source: Any = None,
    *,
    port: int,
    schemas: Sequence[str] | None = None,
    history: str | None = None,
) -> None:
    """Serve the health page of a database until a signal ends it (extra ``[web]``).

    The arguments are those of :func:`sqla_seqreserve.web.health_app`.
    """
    with _until_signalled():
        _run(
            port,
            lambda token: health_app(
                database, source, schemas=schemas, history=history, token=token
            ),
        )


def serve_portal(url: str | None, port: int) -> None:
    """Serve the portal until a signal ends it, then stop what was started (extra ``[portal]``)."""
    with needs_extra("portal"):
        from sqla_seqreserve.web.loopback import loopback_app
    with _until_signalled() as stack:
        _run(port, lambda token: loopback_app(_portal_database(stack, url), token))


@contextlib.contextmanager
def _until_signalled() -> Iterator[contextlib.ExitStack]:
    # uvicorn raises the signal that stopped it again, once it has stopped. By default SIGTERM
    # would then end the process before the embedded server is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        yield stack


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


def _portal_database(stack: contextlib.ExitStack, url: str | None) -> URL:
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
    from sqla_seqreserve.embedded import embedded_postgres
    from sqla_seqreserve.portfolio.schema import upgrade

    with needs_extra("embedded"):
        server = stack.enter_context(embedded_postgres())
    upgrade(server.url)
    return make_url(server.url)
