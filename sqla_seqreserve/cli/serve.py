"""``sqla-seqreserve serve``: the health page and the portal's API on this machine, for a look."""

from __future__ import annotations

from typing import Annotated

import typer

from ._app import app
from ._options import errors_as_exit_codes, needs_extra

__all__ = ["serve"]


@app.command()
def serve(
    url: Annotated[
        str | None,
        typer.Option(
            help="The portal's database, already migrated. "
            "[default: an embedded server's, migrated; env: SQLA_SEQRESERVE_URL]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port of 127.0.0.1; 0: any that is free.")
    ] = 8765,
) -> None:
    """Serve the health page and the portal's API on 127.0.0.1, until SIGTERM or Ctrl-C.

    Prints the URL of the page, which holds a token: nobody comes in without. An application
    includes the router of sqla_seqreserve.web with its own authorisation instead.
    """
    with errors_as_exit_codes():
        with needs_extra("web,portfolio,asyncio"):
            from ._serve import serve_portal
        serve_portal(url, port)
