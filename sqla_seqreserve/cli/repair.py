"""``sqla-seqreserve repair``: move sequences that are behind their tables forward."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from sqlalchemy import Connection

from sqla_seqreserve.health import RepairReport, repair_sequences

from ._app import OPERATE, app
from ._options import (
    JsonOption,
    SchemaOption,
    TargetArgument,
    UrlOption,
    be_quiet,
    errors_as_exit_codes,
    make_console,
)
from ._reports import print_repair
from ._target import EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN, resolve

__all__ = ["exit_code", "repair"]


@app.command(rich_help_panel=OPERATE)
def repair(
    target: TargetArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    headroom: Annotated[int, typer.Option(min=0, help="Ids to skip beyond the largest one.")] = 0,
    lock_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for each table and each sequence.")
    ] = 5.0,
    allow_exhaustion: Annotated[
        bool,
        typer.Option(
            "--allow-exhaustion",
            help="Also move a sequence beyond a few ids far ahead of all others, though hardly any "
            "ids are left then.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move every sequence that is behind to a value beyond its tables' ids, and none back.

    Safe while the application runs. Exit code 0: all healthy now; 1: something is left to do;
    2: could not tell, or nothing to repair.
    """
    be_quiet()
    with errors_as_exit_codes():
        resolved = resolve(target, url, schema)

        def mend(connection: Connection) -> RepairReport:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                return repair_sequences(
                    connection,
                    resolved.source,
                    schemas=resolved.schemas,
                    dry_run=dry_run,
                    headroom=headroom,
                    lock_timeout=lock_timeout,
                    allow_exhaustion=allow_exhaustion,
                )

        report = resolved.database.run(mend)
        resolved.require_sequences(report)
        if as_json:
            typer.echo(json.dumps(report.to_dict(), indent=2))
        else:
            print_repair(make_console(), report, str(resolved.database))
        raise typer.Exit(exit_code(report))


def exit_code(report: RepairReport) -> int:
    """Return 0 if all are healthy now, 2 if the only ones left could not be read, else 1."""
    left = [entry for entry in report.results if entry.action not in ("HEALTHY", "REPAIRED")]
    if not left:
        return EXIT_HEALTHY
    return EXIT_UNKNOWN if all(entry.unreadable for entry in left) else EXIT_UNHEALTHY
