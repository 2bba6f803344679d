"""``sqla-seqreserve health``: is every sequence ahead of its table?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from sqla_seqreserve.health import HealthReport

from ._app import OPERATE, app
from ._formats import HealthFormat, as_json, as_nagios, together
from ._looking import history_in, limits_of, look_at_each
from ._options import (
    AlertDaysOption,
    AlertUsedOption,
    AllDatabasesOption,
    JsonOption,
    SchemaOption,
    StateOption,
    SubscriberOption,
    TargetArgument,
    UrlOption,
    be_quiet,
    errors_as_exit_codes,
    make_console,
    needs_extra,
    print_error,
    reason_of,
)
from ._reports import print_health
from ._target import EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN, resolve

__all__ = ["FailOn", "exit_code", "health"]


class FailOn(StrEnum):
    """The mildest verdict that counts as unhealthy."""

    NEEDS_REPAIR = "needs-repair"
    WARNING = "warning"
    NEVER = "never"


@app.command(rich_help_panel=OPERATE)
def health(
    target: TargetArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    subscriber: SubscriberOption = False,
    all_databases: AllDatabasesOption = False,
    output: Annotated[
        HealthFormat,
        typer.Option("--format", help="nagios has its own exit codes: 0, 1, 2, and 3 for unknown."),
    ] = HealthFormat.TEXT,
    json_wanted: JsonOption = False,
    only_problems: Annotated[
        bool, typer.Option("--only-problems", help="Show only what is not healthy.")
    ] = False,
    fail_on: Annotated[
        FailOn, typer.Option(help="The mildest verdict that makes the exit code 1.")
    ] = FailOn.NEEDS_REPAIR,
    alert_used: AlertUsedOption = 80,
    alert_days: AlertDaysOption = 30,
    state: StateOption = None,
) -> None:
    """Check every sequence against its table.

    It only reads. Exit code 0: healthy; 1: not healthy, or a finding of severity HIGH, such as a
    sequence near its end; 2: could not tell, or nothing to check.
    """
    be_quiet()
    if json_wanted:
        if output not in (HealthFormat.TEXT, HealthFormat.JSON):
            raise typer.BadParameter(f"does not go with --format {output}", param_hint="--json")
        output = HealthFormat.JSON
    with errors_as_exit_codes(), _unknown_to_nagios(output):
        limits = limits_of(alert_used, alert_days)
        resolved = resolve(target, url, schema)
        history = history_in(state)
        targets = resolved.each_database() if all_databases else [resolved]
        looked, unchecked = look_at_each(targets, history, limits, subscriber=subscriber)
        looks = [found for _, found in looked]
        report = together(looks)
        resolved.require_sequences(report)
        if output is HealthFormat.NAGIOS:
            line, code = as_nagios(report, alert_used, unchecked)
            typer.echo(line)
            raise typer.Exit(code)
        for each in unchecked:
            print_error(str(each))
        if output is HealthFormat.JSON:
            typer.echo(as_json(looks, unchecked, only_problems=only_problems))
        elif output is HealthFormat.PROMETHEUS_TEXTFILE:
            with needs_extra("metrics"):
                from sqla_seqreserve.metrics import health_text
            typer.echo(health_text(report), nl=False)
        else:
            for target_, found in looked:
                print_health(
                    make_console(), found.report, str(target_.database), only_problems=only_problems
                )
        code = exit_code(report, fail_on)
        if unchecked and code == EXIT_HEALTHY and fail_on is not FailOn.NEVER:
            code = EXIT_UNKNOWN
        raise typer.Exit(code)


@contextmanager
def _unknown_to_nagios(output: HealthFormat) -> Iterator[None]:
    """Print an error as a plugin does: on standard output, and with 3, since 2 means critical."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if output is not HealthFormat.NAGIOS:
            raise
        typer.echo(f"SEQUENCES UNKNOWN - {reason_of(error)}")
        raise typer.Exit(3) from error


def exit_code(report: HealthReport, fail_on: FailOn) -> int:
    """Return 0 for healthy, 1 for not, 2 if something could not be read."""
    if fail_on is FailOn.NEVER:
        return EXIT_HEALTHY
    statuses = {entry.status for entry in report.sequences}
    if statuses & {"NEEDS_REPAIR", "EXHAUSTED"} or any(
        entry.status == "WARNING" and (fail_on is FailOn.WARNING or entry.severity == "HIGH")
        for entry in report.sequences
    ):
        return EXIT_UNHEALTHY
    return EXIT_UNKNOWN if "UNREADABLE" in statuses else EXIT_HEALTHY
