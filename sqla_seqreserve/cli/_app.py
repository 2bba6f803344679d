"""The typer application that the commands register themselves with."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sqla_seqreserve import __version__

# The panels in which --help groups the commands.
OPERATE = "Operate a database"
LEARN = "See it work, read about it"
DEVELOP = "Import data, measure speed"

_ORDER = (
    *("health", "repair", "watch", "serve", "rules", "dashboard"),
    *("demo", "guide"),
    *("load", "bench"),
)


class _Commands(TyperGroup):
    """The commands in the order in which --help shows them, the operator's commands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="sqla-seqreserve",
    help="Reserved ids and healthy sequences for SQLAlchemy on PostgreSQL.",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # it joins the lines of a paragraph, and keeps [brackets]
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
