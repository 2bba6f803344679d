"""Options that several commands share, and how a command fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sqla_seqreserve.errors import ConfigurationError

from ._target import EXIT_UNKNOWN

__all__ = [
    "JsonOption",
    "SchemaOption",
    "TargetArgument",
    "UrlOption",
    "errors_as_exit_codes",
    "needs_extra",
]

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        help="A database URL: every sequence in it. Or module:Base: the application's models, "
        "in the database that --url or SQLA_SEQRESERVE_URL names.",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The database of module:Base. [env: SQLA_SEQRESERVE_URL]"),
]
SchemaOption = Annotated[
    list[str] | None, typer.Option("--schema", help="Only this schema; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print what went wrong in one line, and exit with 2: could not tell."""
    try:
        yield
    except SQLAlchemyError as error:
        # A DBAPIError's text would repeat the statement and its parameters.
        reason = error.orig if isinstance(error, DBAPIError) else error
        Console(stderr=True, soft_wrap=True).print(
            f"error: {str(reason).strip()}", style="red", markup=False, highlight=False
        )
        raise typer.Exit(EXIT_UNKNOWN) from error


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Say what to install where an import inside the block finds a library missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed, and this command needs it: "
            f'pip install "sqla-seqreserve[{extra}]"'
        ) from error
