"""``sqla-seqreserve load activities.csv``: load holding activities, all of them or none."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import InvalidRowsError, RowProblem
from sqla_seqreserve.registration import register

from ._app import app

if TYPE_CHECKING:
    from sqla_seqreserve.portfolio.csv_load import LoadReport

__all__ = ["load"]


@app.command()
def load(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="A CSV file in UTF-8."),
    ],
    url: Annotated[
        str,
        typer.Option(
            envvar="SQLA_SEQRESERVE_URL",
            help="The database: postgresql+psycopg://...",
            show_default=False,
        ),
    ],
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
    chunk_rows: Annotated[
        int, typer.Option(min=1, help="How many rows are written, and committed, at a time.")
    ] = 5000,
) -> None:
    """Load holding activities from a CSV file.

    All lines are checked before any is written. A load that was broken off is resumed by running it
    again: lines that are in the database already are not loaded twice.
    """
    # Needs the extra [portfolio], which the other commands do not.
    from sqla_seqreserve.portfolio.csv_load import load_activities

    errors = Console(stderr=True)
    if rejects is not None and not skip_bad:
        raise typer.BadParameter("is for --skip-bad only", param_hint="--rejects")
    rejects_path = rejects or file.with_name(f"{file.name}.rejects.csv")
    if skip_bad and rejects_path.resolve() == file.resolve():
        raise typer.BadParameter("must not be the file itself", param_hint="--rejects")

    def show_problem(problem: RowProblem) -> None:
        errors.print(
            f"line {problem.index}, {problem.attribute}: {problem.problem}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    try:
        with ExitStack() as stack:
            # What is not UTF-8 is a bad line, not the end of the load.
            lines = stack.enter_context(
                file.open(newline="", encoding="utf-8-sig", errors="surrogateescape")
            )
            rejected = None
            if skip_bad:
                rejected = stack.enter_context(
                    rejects_path.open("w", newline="", encoding="utf-8", errors="surrogateescape")
                )
            engine = create_engine(url)
            stack.callback(engine.dispose)
            connection = stack.enter_context(engine.connect())
            session = stack.enter_context(Session(bind=connection))
            register(session, reserve="always")
            bar = stack.enter_context(_bar(errors))
            report = load_activities(
                session,
                lines,
                skip_bad=skip_bad,
                rejects=rejected,
                skip_irr_calculation=skip_irr,
                chunk_rows=chunk_rows,
                commit=session.commit,
                progress=_Shown(bar),
                on_problem=show_problem,
            )
            session.commit()
    except InvalidRowsError as error:
        # The problems are on the screen already.
        errors.print(str(error).partition("\n")[0], markup=False, style="red", soft_wrap=True)
        raise typer.Exit(1) from error
    except SQLAlchemyError as error:
        # A DBAPIError's text would repeat the statement and its values.
        reason = error.orig if isinstance(error, DBAPIError) else error
        errors.print(f"error: {reason}", markup=False, style="red", soft_wrap=True)
        raise typer.Exit(2) from error
    _print(report, rejects_path)


class _Shown:
    """Shows the progress of a load as a bar for each of its stages."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._checking = bar.add_task("Checking", total=None)
        self._saving = bar.add_task("Saving", total=None, visible=False)

    def __call__(self, stage: Literal["check", "save"], rows: int, total: int | None) -> None:
        if stage == "check":
            self._bar.update(self._checking, completed=rows)
            return
        self._bar.update(self._saving, completed=rows, total=total, visible=True)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _print(report: LoadReport, rejects: Path) -> None:
    console = Console()
    console.print(
        f"{report.lines} lines: {report.saved} loaded, {report.present} there before, "
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
