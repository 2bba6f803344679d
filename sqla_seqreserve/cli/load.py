"""``sqla-seqreserve load activities.csv``: load holding activities, all of them or none."""

from __future__ import annotations

import codecs
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError, RowProblem
from sqla_seqreserve.registration import register

from ._app import DEVELOP, app
from ._database import find_database
from ._options import UrlOption, errors_as_exit_codes, make_console, needs_extra
from ._progress import progress
from ._reports import count

if TYPE_CHECKING:
    from sqla_seqreserve.portfolio.csv_load import LoadReport

__all__ = ["load"]

EXIT_NOTHING_LOADED, EXIT_SKIPPED = 1, 3


@app.command(rich_help_panel=DEVELOP)
def load(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, readable=True, help="A CSV file in UTF-8 or UTF-16."
        ),
    ],
    url: UrlOption = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines out, rather than load nothing.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            writable=True,
            help="Where --skip-bad writes the bad lines. Default: FILE.rejects.csv",
            show_default=False,
        ),
    ] = None,
    skip_irr: Annotated[
        bool, typer.Option("--skip-irr", help="Do not recalculate the rates of return.")
    ] = False,
    unknown_types: Annotated[
        bool,
        typer.Option(
            "--unknown-types",
            help="Also load activities of a type that counts in no rate of return.",
        ),
    ] = False,
    list_bad: Annotated[
        int, typer.Option(min=0, help="How many bad lines are listed at most.")
    ] = 20,
    chunk_rows: Annotated[
        int, typer.Option(min=1, help="How many rows are written, and committed, at a time.")
    ] = 5000,
) -> None:
    """Load holding activities from a CSV file.

    All lines are checked before any is written. To resume a load that was interrupted, run it
    again: lines that are in the database already are not loaded twice.

    Exit code 0: every line is in the database; 1: nothing was loaded, because lines are bad; 2: it
    could not run; 3: loaded, without the bad lines that --skip-bad left out.
    """
    errors = make_console(stderr=True)
    if rejects is not None and not skip_bad:
        raise typer.BadParameter("is for --skip-bad only", param_hint="--rejects")
    rejects_path = rejects or file.with_name(f"{file.name}.rejects.csv")
    if skip_bad and rejects_path.resolve() == file.resolve():
        raise typer.BadParameter("must not be the file itself", param_hint="--rejects")
    with errors_as_exit_codes():
        with needs_extra("cli,portfolio"):
            from sqla_seqreserve.portfolio.csv_load import load_activities
        database = find_database(url)
        problems = _Problems(errors, list_bad)

        def work(connection: Connection) -> LoadReport:
            with ExitStack() as stack:
                lines = stack.enter_context(_open(file))
                rejected = None
                if skip_bad:
                    rejected = stack.enter_context(
                        rejects_path.open(
                            "w", newline="", encoding="utf-8", errors="surrogateescape"
                        )
                    )
                session = stack.enter_context(Session(bind=connection))
                register(session, reserve="always")
                shown = stack.enter_context(progress(errors, "rows"))
                report = load_activities(
                    session,
                    lines,
                    skip_bad=skip_bad,
                    rejects=rejected,
                    skip_irr_calculation=skip_irr,
                    chunk_rows=chunk_rows,
                    unknown_types=unknown_types,
                    commit=session.commit,
                    progress=lambda stage, rows, total: shown.update(stage, rows, total),
                    on_problem=problems.show,
                )
                session.commit()
                return report

        try:
            report = database.run(work)
        except UnicodeDecodeError as error:
            problems.end()
            raise ConfigurationError(
                f"{file} begins as {error.encoding.upper()}, and goes on as something else "
                f"({error.reason}); save it as CSV UTF-8"
            ) from error
        except InvalidRowsError as error:
            problems.end()
            # The others are on the screen already.
            errors.print(str(error).partition("\n")[0], markup=False, style="red")
            raise typer.Exit(EXIT_NOTHING_LOADED) from error
        problems.end()
        _print(report, rejects_path)
        raise typer.Exit(EXIT_SKIPPED if report.rejected else 0)


def _open(file: Path) -> TextIO:
    """The file as text: in UTF-16 where its mark says so, else in UTF-8."""
    with file.open("rb") as beginning:
        mark = beginning.read(2)
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return file.open(newline="", encoding="utf-16")
    # Text that is not UTF-8 makes a bad line; it does not end the load.
    return file.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


class _Problems:
    """Lists the first bad lines, and counts the others."""

    def __init__(self, console: Console, most: int) -> None:
        self._console = console
        self._most = most
        self._lines = 0
        self._last: int | None = None

    def show(self, problem: RowProblem) -> None:
        """List a problem, if its line is one of the first."""
        if problem.index != self._last:
            self._last = problem.index
            self._lines += 1
        if self._lines <= self._most:
            self._console.print(
                f"line {problem.index}, {problem.attribute}: {problem.problem}",
                markup=False,
                highlight=False,
            )

    def end(self) -> None:
        """Say how many were not listed."""
        if self._lines > self._most:
            self._console.print(f"and {count(self._lines - self._most, 'more bad line')}")


def _print(report: LoadReport, rejects: Path) -> None:
    console = make_console()
    console.print(
        f"{count(report.lines, 'line')}: {report.saved} loaded, {report.present} there before, "
        f"{report.rejected} rejected",
        highlight=False,
    )
    if report.rejected:
        console.print(f"The rejected lines are in {rejects}", markup=False, highlight=False)
    if report.irr is None:
        return
    if report.irr.error is not None:
        console.print("The rates of return were not recalculated; the log says why", style="yellow")
    console.print(
        f"Rates of return: {report.irr.fund_irrs} of funds, {report.irr.portfolio_irrs} of "
        f"portfolios, {len(report.irr.failures)} could not be given",
        highlight=False,
    )
