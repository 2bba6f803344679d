"""The typer application that the commands register themselves with."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(
    name="sqla-seqreserve",
    help="Reserved ids and healthy sequences for SQLAlchemy on PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would show URLs, and their passwords
)


@app.callback()
def _commands() -> None:
    # With a callback, typer keeps a name for each command, even when there is only one.
    """Reserved ids and healthy sequences for SQLAlchemy on PostgreSQL."""
