"""``sqla-seqreserve demo``: the main job on real data, measured beside plain SQLAlchemy."""

from __future__ import annotations

from typing import Annotated

import typer

from ._app import LEARN, app
from ._options import PortOption, be_quiet, errors_as_exit_codes, make_console, needs_extra

__all__ = ["demo"]


@app.command(rich_help_panel=LEARN)
def demo(
    clients: Annotated[
        int, typer.Option(min=1, help="How many clients have a monthly plan in each share.")
    ] = 100,
    compare: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many clients plain SQLAlchemy saves, too, in rounds of 10.",
        ),
    ] = 30,
    url: Annotated[
        str | None,
        typer.Option(
            help="A PostgreSQL server to use, with the rights to create databases. Existing "
            "databases are not touched. [default: an embedded server; env: SQLA_SEQRESERVE_URL]",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the database, and print where it is.")
    ] = False,
    portal: Annotated[
        bool,
        typer.Option(
            "--portal",
            help="Also show what each share brought, and the targets of the portal's owners beside "
            "what was reached.",
        ),
    ] = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Then serve the portal's API and health page on 127.0.0.1, until SIGTERM or "
            "Ctrl-C; the URL that is printed holds a token (extra \\[portal]).",
        ),
    ] = False,
    port: PortOption = 8765,
) -> None:
    """Save a decade of monthly investments beside plain SQLAlchemy; break a sequence, repair it.

    Starts a PostgreSQL of its own, migrates it, turns the share prices of 2000 to 2010 (Amazon,
    Apple, Google, IBM, Microsoft) into what clients with a monthly plan in each share would have
    logged, and saves all of it through session.add_all() and session.commit(): with 100 clients
    56,000 activities and as many valuations. Compares the time with plain SQLAlchemy's. Then an
    import with explicit ids leaves a sequence behind its table, health detects it, an INSERT
    fails, repair moves the sequence, and the INSERT works.

    Exit code 0: every row is there, every sequence is healthy, and with --portal every measure is
    met; 1: something is wrong; 2: it could not run.
    """
    be_quiet()
    with errors_as_exit_codes():
        with needs_extra("demo"):
            from ._demo import run_demo
        problems = run_demo(
            url,
            clients=clients,
            compared=compare,
            keep=keep,
            portal=portal,
            serve_on=port if serve else None,
        )
    for problem in problems:
        make_console(stderr=True).print(f"wrong: {problem}", style="red", markup=False)
    raise typer.Exit(1 if problems else 0)
