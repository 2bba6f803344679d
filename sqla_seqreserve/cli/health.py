"""``sqla-seqreserve health``: is every sequence ahead of its table?"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from sqla_seqreserve.health import HealthReport

from ._app import app
from ._looking import history_in, limits_of, look
from ._options import (
    AlertDaysOption,
    AlertUsedOption,
    JsonOption,
    SchemaOption,
    StateOption,
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
    alert_used: AlertUsedOption = 80,
    alert_days: AlertDaysOption = 30,
    state: StateOption = None,
) -> None:
    """Check every sequence against its table.

    Reads only. Exit code 0: healthy; 1: not, or a finding of severity HIGH, such as a sequence
    near its end; 2: could not tell, or nothing to check.
    """
    be_quiet()
    with errors_as_exit_codes():
        resolved = resolve(target, url, schema)
        limits = limits_of(alert_used, alert_days)
        report = look(resolved, history_in(state), limits, subscriber=subscriber).report
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
    if statuses & {"NEEDS_REPAIR", "EXHAUSTED"} or any(
        entry.status == "WARNING" and (fail_on is FailOn.WARNING or entry.severity == "HIGH")
        for entry in report.sequences
    ):
        return EXIT_UNHEALTHY
    return EXIT_UNKNOWN if "UNREADABLE" in statuses else EXIT_HEALTHY
