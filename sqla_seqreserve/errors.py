"""The errors that this package raises.

::

    sqlalchemy.exc.SQLAlchemyError
     └─ SeqReserveError                     everything below
         ├─ ConfigurationError              register() or a command got a setting that it cannot use
         ├─ UnmappedClassError              a class that SQLAlchemy does not map
         ├─ SequenceNotFoundError           the class has no generated key, or the database nothing
         │                                  to reserve it from
         ├─ SequenceExhaustedError          the sequence ran out, or passed its column's type
         ├─ SequenceDriftError              a sequence is behind its table
         ├─ InvalidCountError               a number of ids that is not a whole number of 0 or more
         ├─ InvalidRowsError                rows that cannot be written, each one listed
         ├─ LockTimeoutError                a repair could not get its lock in time
         ├─ ReadOnlyError                   a standby, or a transaction that is READ ONLY
         ├─ UnsupportedDatabaseError        the bind is not PostgreSQL
         └─ EmbeddedServerError             the embedded server could not be found or started

    RuntimeWarning
     └─ SequenceDriftWarning                as SequenceDriftError, under ``on_drift="warn"``, or
                                            of ids far ahead that a repair does not jump over

What the database itself refuses stays SQLAlchemy's: an ``IntegrityError`` is an ``IntegrityError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

__all__ = [
    "ConfigurationError",
    "EmbeddedServerError",
    "InvalidCountError",
    "InvalidRowsError",
    "LockTimeoutError",
    "ReadOnlyError",
    "RowProblem",
    "SeqReserveError",
    "SequenceDriftError",
    "SequenceDriftWarning",
    "SequenceExhaustedError",
    "SequenceNotFoundError",
    "UnmappedClassError",
    "UnsupportedDatabaseError",
]


class SeqReserveError(SQLAlchemyError):
    """Base class of every error that this package raises itself."""


class ConfigurationError(SeqReserveError):
    """A setting has a value that cannot be used."""


class UnmappedClassError(SeqReserveError):
    """The class is not mapped by SQLAlchemy."""


class SequenceNotFoundError(SeqReserveError):
    """The class has no generated key column; or the database has no sequence for it, and no default
    that can be evaluated before the row exists.
    """


class SequenceExhaustedError(SeqReserveError):
    """The sequence has no value left, or its next values do not fit the column's type."""


class SequenceDriftError(SeqReserveError):
    """A sequence would hand out ids that its table already holds."""


class SequenceDriftWarning(RuntimeWarning):
    """A sequence will hand out ids that its table already holds, and nothing was done about it."""


class InvalidCountError(SeqReserveError):
    """A number of ids is not a whole number of zero or more."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One thing that is wrong with one row.

    :param index: the row's position in the input.
    :param attribute: the attribute; empty if the row itself is wrong.
    :param problem: what is wrong.
    :param kind: the same in general terms, if ``problem`` names values of this one row: problems of
        one kind are summed up in one line.
    """

    index: int
    attribute: str
    problem: str
    kind: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = f"row {self.index}, {self.attribute}" if self.attribute else f"row {self.index}"
        return f"{where}: {self.problem}"


class InvalidRowsError(SeqReserveError):
    """Rows that cannot be written. Nothing was reserved or written.

    :attr:`problems` lists every problem of every row. The message has a line for each kind of
    problem, with the first row that has it and the number of other rows; it is never long.
    """

    def __init__(self, message: str, problems: Sequence[RowProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *_summary(self.problems)]))


# Keeps the whole message to at most some 2,000 characters.
_MOST_LINES: Final = 8
_LINE: Final = 150
_MOST_NAMED: Final = 5


def _summary(problems: Iterable[RowProblem]) -> Iterator[str]:
    """Yield a line for each kind of problem of an attribute, most frequent first, and no more lines
    than people read.
    """
    found: dict[tuple[str, str], list[RowProblem]] = {}
    for problem in problems:
        found.setdefault((problem.attribute, problem.kind or problem.problem), []).append(problem)
    kinds = sorted(found.values(), key=len, reverse=True)
    for alike in kinds[:_MOST_LINES]:
        line = str(alike[0])
        if len(line) > _LINE:
            line = f"{line[:_LINE]}…"
        if len(alike) > 1:
            others = ", ".join(str(each.index) for each in alike[1 : _MOST_NAMED + 1])
            more = ", …" if len(alike) > _MOST_NAMED + 1 else ""
            line = f"{line} ({len(alike):,} rows: also {others}{more})"
        yield f"  {line}"
    if len(kinds) > _MOST_LINES:
        rest = sum(map(len, kinds[_MOST_LINES:]))
        yield f"  and {rest:,} more problem{'' if rest == 1 else 's'}"
    if len(kinds) > _MOST_LINES or any(len(alike) > _MOST_NAMED + 1 for alike in kinds):
        yield "  all are in the error's `problems`"


class LockTimeoutError(SeqReserveError):
    """A lock that a repair needs was not granted in time; nothing was changed."""


class ReadOnlyError(SeqReserveError):
    """Ids cannot be taken, rows written and sequences moved: a standby, or a READ ONLY
    transaction.
    """


class UnsupportedDatabaseError(SeqReserveError):
    """The session or connection is not bound to PostgreSQL."""


class EmbeddedServerError(SeqReserveError):
    """No PostgreSQL binaries were found, or the embedded server did not start."""
