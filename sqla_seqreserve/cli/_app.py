"""The typer application that the commands register themselves with."""

from __future__ import annotations

from typing import Annotated

import typer

from sqla_seqreserve import __version__

__all__ = ["app"]

app = typer.Typer(
    name="sqla-seqreserve",
    help="Reserved ids and healthy sequences for SQLAlchemy on PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would show URLs, and their passwords
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sqla-seqreserve {__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    # With a callback, typer keeps a name for each command, even when there is only one.
    """Reserved ids and healthy sequences for SQLAlchemy on PostgreSQL."""
