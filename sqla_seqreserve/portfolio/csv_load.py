"""Loading holding activities from CSV, of any size, in bounded memory.

::

    with open("activities.csv", newline="", encoding="utf-8-sig") as lines:
        report = load_activities(session, lines)
    session.commit()

The first line names the columns: ``product_id``, ``portfolio_fund_id``, ``activity_type``,
``activity_timestamp`` (or ``month``) and ``amount``, in any order, with commas, semicolons, tabs or
bars between them; Excel's line ``sep=;`` may stand before it. Values are those of
:func:`~sqla_seqreserve.portfolio.activities.save_activities`, as text.

1. The lines are read once, checked, and stored in a temporary table. Every bad line is passed to
   ``on_problem``. Unless all are good, nothing is written; with ``skip_bad``, the bad ones are left
   out, and written to ``rejects`` with what is wrong, ready to be corrected and loaded.
2. Lines that the table holds already are dropped: same product, fund, type, moment and amount. A
   line that is in the file three times, and in the table once, is loaded twice. So a load that
   was interrupted is resumed by running it again.
3. The rest is saved, chunk by chunk, in the order of the lines.
4. The rates of return are recalculated, from each portfolio's earliest line on.

By default all of this is in the caller's transaction. To keep what is saved of a file that is too
large for that, give ``commit=session.commit``; the session is then bound to one connection, which
holds the temporary table: ``Session(bind=connection)``.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, Protocol, TextIO

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError, RowProblem

from ._csv_lines import Line, Rejects, read_lines
from ._parents import read_parents
from ._staging import Staging
from .activities import recalculate_safely
from .cash_flows import flow_sign
from .models import HoldingActivityLog
from .recalculation import RecalculationReport

__all__ = ["LoadReport", "Progress", "load_activities"]

log = logging.getLogger("sqla_seqreserve.portfolio")

LISTED: Final = 100
"""How many problems the error holds; all of them go to ``on_problem``."""

# Characters of a value in a message.
_SHOWN = 60

# Portfolios whose histories are held in memory at once.
_PORTFOLIOS_AT_ONCE = 20


class Progress(Protocol):
    """Called with the progress of a load: rows checked, of an unknown total; then rows saved."""

    def __call__(self, stage: Literal["check", "save"], rows: int, total: int | None) -> object: ...


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of a load.

    :ivar lines: lines read, without the header and blank ones
    :ivar saved: activities that were inserted
    :ivar present: lines that the table held already
    :ivar rejected: bad lines that were left out
    :ivar irr: the result for the rates of return; None if their recalculation was skipped
    """

    lines: int
    saved: int
    present: int
    rejected: int
    irr: RecalculationReport | None


def load_activities(
    session: Session,
    lines: Iterable[str],
    *,
    skip_bad: bool = False,
    rejects: TextIO | None = None,
    skip_irr_calculation: bool = False,
    chunk_rows: int = 5000,
    commit: Callable[[], object] | None = None,
    unknown_types: bool = True,
    progress: Progress | None = None,
    on_problem: Callable[[RowProblem], object] | None = None,
) -> LoadReport:
    """Load the lines of a CSV file. The caller commits, unless ``commit`` does after each chunk.

    :param skip_bad: leave bad lines out, rather than write nothing
    :param rejects: where the lines left out are written, with what is wrong with them
    :param unknown_types: whether to load activities of a type that no rule knows, and that counts
        in no rate of return; False: such a line is bad
    :param on_problem: called with each problem as it is found; its index is the line's number
    :raises InvalidRowsError: lines are bad, and ``skip_bad`` is not set; or a quote is left open.
        Nothing was written
    :raises ConfigurationError: the header or a setting cannot be used
    """
    if chunk_rows < 1:
        raise ConfigurationError(f"chunk_rows must be 1 or more, found {chunk_rows}")
    if commit is not None and not isinstance(session.get_bind(), Connection):
        raise ConfigurationError(
            "A load that commits needs a session that keeps its connection, because the temporary "
            "table lives there: expected Session(bind=connection), "
            f"found one on {session.get_bind()!r}"
        )
    tell: Progress = progress if progress is not None else _tell_nobody
    header, records = read_lines(lines)
    check = _Check(
        on_problem,
        Rejects(rejects, header) if rejects is not None else None,
        unknown_types=unknown_types,
    )
    with Staging(session) as staging:
        while chunk := list(islice(records, chunk_rows)):
            good = check.good_lines(session, chunk)
            if skip_bad or not check.bad:
                staging.add(good)
            tell("check", check.lines, None)
        if check.bad and not skip_bad:
            raise InvalidRowsError(
                f"Nothing was loaded: {check.bad} of {check.lines} lines "
                f"{'is' if check.bad == 1 else 'are'} wrong"
                + (f"; the first {LISTED} problems:" if check.problems > LISTED else ""),
                check.listed,
            )
        changes = staging.earliest_by_portfolio()
        present = staging.drop_present()
        total = staging.count()
        saved = 0
        for chunk_values in staging.chunks(chunk_rows):
            bulk_insert(session, HoldingActivityLog, chunk_values, returning=None)
            saved += len(chunk_values)
            if commit is not None:
                commit()
            tell("save", saved, total)
    log.info("loaded activities: %d, already there: %d, bad: %d", saved, present, check.bad)
    irr = None if skip_irr_calculation else _recalculate(session, changes, commit)
    return LoadReport(check.lines, saved, present, check.bad, irr)


class _Check:
    """Counts and reports what is wrong with the lines."""

    def __init__(
        self,
        on_problem: Callable[[RowProblem], object] | None,
        rejects: Rejects | None,
        *,
        unknown_types: bool,
    ) -> None:
        self.lines = self.bad = self.problems = 0
        self.listed: list[RowProblem] = []
        self._on_problem = on_problem
        self._rejects = rejects
        self._unknown_types = unknown_types

    def good_lines(self, session: Session, chunk: list[Line]) -> list[Line]:
        """Return the good lines of a chunk; report the others."""
        self.lines += len(chunk)
        parents = read_parents(session, (line.activity for line in chunk))
        good = []
        for line in chunk:
            problems = [
                *line.problems,
                *self._type_problems(line),
                *parents.problems(line.number, line.activity),
            ]
            if problems:
                self._report(line, problems)
            else:
                good.append(line)
        return good

    def _type_problems(self, line: Line) -> list[RowProblem]:
        kind = line.activity.activity_type
        if self._unknown_types or kind is None or flow_sign(kind):
            return []
        shown = kind if len(kind) <= _SHOWN else f"{kind[:_SHOWN]}..."
        problem = f"{shown!r} is not known, and would count in no rate of return"
        return [RowProblem(line.number, "activity_type", problem)]

    def _report(self, line: Line, problems: list[RowProblem]) -> None:
        self.bad += 1
        self.problems += len(problems)
        # Only some are kept: the memory is bounded, the number of bad lines is not.
        self.listed.extend(problems[: max(0, LISTED - len(self.listed))])
        if self._on_problem is not None:
            for problem in problems:
                self._on_problem(problem)
        if self._rejects is not None:
            self._rejects.write(line, problems)


def _recalculate(
    session: Session, changes: dict[int, dt.date], commit: Callable[[], object] | None
) -> RecalculationReport:
    total = RecalculationReport()
    portfolios = iter(sorted(changes))
    while some := list(islice(portfolios, _PORTFOLIOS_AT_ONCE)):
        report = recalculate_safely(session, {key: changes[key] for key in some})
        total = total.plus(report)
        if commit is not None:
            commit()
    return total


def _tell_nobody(stage: str, rows: int, total: int | None) -> None:
    """The progress function if none was given."""
