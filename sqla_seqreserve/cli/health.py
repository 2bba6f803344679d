"""``sqla-seqreserve health``: is every sequence ahead of its table?"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import Connection

from sqla_seqreserve.health import HealthReport, check_sequences

from ._app import app
from ._options import (
    JsonOption,
    SchemaOption,
    SubscriberOption,
    TargetArgument,
    UrlOption,
    be_quiet,
    errors_as_exit_codes,
)
from ._reports import print_health
from ._target import EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN, resolve

__all__ = ["FailOn", "exit_code", "health"]


class FailOn(StrEnum):
    """The mildest verdict that counts as unhealthy."""

    NEEDS_REPAIR = "needs-repair"
    WARNING = "warning"
    NEVER = "never"


@app.command()
def health(
    target: TargetArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    subscriber: SubscriberOption = False,
    as_json: JsonOption = False,
    fail_on: Annotated[
        FailOn, typer.Option(help="The mildest verdict that makes the exit code 1.")
    ] = FailOn.NEEDS_REPAIR,
) -> None:
    """Check every sequence against its table.

    Reads only. Exit code 0: healthy; 1: not; 2: could not tell, or nothing to check.
    """
    be_quiet()
    with errors_as_exit_codes():
        resolved = resolve(target, url, schema)

        def check(connection: Connection) -> HealthReport:
            resolved.require_schemas(connection)
            return check_sequences(
                connection, resolved.source, schemas=resolved.schemas, subscriber=subscriber
            )

        report = resolved.database.run(check)
        resolved.require_sequences(report)
        if as_json:
            typer.echo(json.dumps(report.to_dict(), indent=2))
        else:
            print_health(Console(), report, str(resolved.database))
        raise typer.Exit(exit_code(report, fail_on))


def exit_code(report: HealthReport, fail_on: FailOn) -> int:
    """Return 0 for healthy, 1 for not, 2 for what could not be read."""
    if fail_on is FailOn.NEVER:
        return EXIT_HEALTHY
    statuses = {entry.status for entry in report.sequences}
    if statuses & {"NEEDS_REPAIR", "EXHAUSTED"} or (
        fail_on is FailOn.WARNING and "WARNING" in statuses
    ):
        return EXIT_UNHEALTHY
    return EXIT_UNKNOWN if "UNREADABLE" in statuses else EXIT_HEALTHY
