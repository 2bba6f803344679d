"""``sqla-seqreserve serve``: the health page of a database, on this machine, for a look."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ._app import OPERATE, app
from ._options import (
    PortOption,
    SchemaOption,
    TargetArgument,
    UrlOption,
    errors_as_exit_codes,
    needs_extra,
)
from ._target import resolve

__all__ = ["serve"]


@app.command(rich_help_panel=OPERATE)
def serve(
    target: TargetArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    port: PortOption = 8765,
    history: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="A file that remembers earlier checks, for the page's charts after a restart.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the health page of your database on 127.0.0.1, until SIGTERM or Ctrl-C.

    Prints the URL of the page, which contains a token; without it nobody can see the page. An
    application includes the router of sqla_seqreserve.web with its own authorisation instead. For
    the portal's demonstration, run demo --serve.
    """
    # The findings of a check are on the page; requests that fail are only in the log.
    logging.getLogger("sqla_seqreserve.health").setLevel(logging.ERROR)
    with errors_as_exit_codes():
        resolved = resolve(target, url, schema)
        with needs_extra("cli,web"):
            from ._serve import serve_health
        serve_health(resolved, port=port, history=history)
