"""The options that several commands share, and how commands report failures."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sqla_seqreserve.errors import ConfigurationError

from ._target import EXIT_UNKNOWN

TARGET_HELP = (
    "A database URL or libpq string: every sequence in it. Or module:Base: the application's "
    "models, in the database that --url or the environment (SQLA_SEQRESERVE_URL, DATABASE_URL, "
    "PGHOST and its sisters) names."
)
TargetArgument = Annotated[str | None, typer.Argument(help=TARGET_HELP, show_default=False)]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The database. [env: SQLA_SEQRESERVE_URL, DATABASE_URL, PGHOST and its sisters]",
        show_default=False,
    ),
]
SchemaOption = Annotated[
    list[str] | None, typer.Option("--schema", help="Only this schema; may be repeated.")
]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="The port of 127.0.0.1; 0: any that is free.")
]
SubscriberOption = Annotated[
    bool,
    typer.Option(
        "--subscriber",
        help="This server is a logical subscriber: sequences may be behind tables that "
        "replication fills.",
    ),
]
AlertUsedOption = Annotated[
    float,
    typer.Option(help="Percentage of used ids from which on a sequence is near its end."),
]
AlertDaysOption = Annotated[
    float,
    typer.Option(min=0, help="A sequence is near its end if its last id goes within so many days."),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        dir_okay=False,
        help="A file that remembers earlier checks: they show when ids will run out.",
        show_default=False,
    ),
]
AllDatabasesOption = Annotated[
    bool,
    typer.Option(
        "--all-databases",
        help="Also every other database of the server that the role may connect to.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def be_quiet() -> None:
    """Silence the log's warnings in a command that prints the same facts itself."""
    logging.getLogger("sqla_seqreserve").addHandler(logging.NullHandler())


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that breaks lines between words on a terminal, and nowhere else.

    It prints names as they are: rich would make a picture of the middle of a:b:c.
    """
    console = Console(stderr=stderr, emoji=False)
    console.soft_wrap = not console.is_terminal
    return console


def print_error(reason: str) -> None:
    """Print an error on standard error."""
    make_console(stderr=True).print(f"error: {reason}", style="red", markup=False, highlight=False)


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print any error of the block in one line, and exit with 2: could not tell.

    A traceback would end with exit code 1, which means "not healthy".
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError as error:
        # The reader, such as head, has closed the pipe. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_UNKNOWN) from error
    except Exception as error:
        print_error(reason_of(error))
        raise typer.Exit(EXIT_UNKNOWN) from error


def reason_of(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, DBAPIError):
        # Its text would repeat the statement and its parameters.
        reason = str(error.orig)
    elif isinstance(error, SQLAlchemyError):
        reason = str(error)
    else:
        # An error that we did not foresee: its class says more than its text.
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(reason.split())


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Say what to install if an import in the block finds a library missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed, and this command needs it: "
            f'pip install "sqla-seqreserve[{extra}]"'
        ) from error
