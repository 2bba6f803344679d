"""The audit: logs every event of the package as one line, with its facts as ``extra`` fields.

Each record has ``record.event`` and the fields listed here, for a JSON formatter or a filter. The
loggers are children of ``sqla_seqreserve``. Routine events are INFO or below. As with SQLAlchemy's
own logger, they are silent until the application sets the level of ``sqla_seqreserve`` itself:
``logging.getLogger("sqla_seqreserve").setLevel(logging.INFO)``. A field holds a name, a number or a
reason, never a row's value, a key, a URL or a database's message about a row.

========================== =============== ======= ===============================================
event                      logger          level   fields
========================== =============== ======= ===============================================
``ids_reserved``           ``reservation`` INFO    model, sequence, count
``rows_written``           ``flush``       INFO,   model, kind, rows, reserved, writer, reason,
                                           DEBUG   seconds; DEBUG for the few rows of an INSERT
``rows_written``           ``bulk``        INFO    the same
``fallback``               ``flush``,      INFO    the same; ``reason`` says why COPY could not
                           ``bulk``                write these rows, or they could not travel
                                                   together
``flushed``                ``flush``       DEBUG   rows, seconds
``failed``                 ``flush``,      INFO    error (its class), sqlstate; the caller has the
                           ``bulk``,               exception itself
                           ``reservation``
``sequences_checked``      ``health``      INFO,   sequences, healthy, unhealthy_sequences,
                                           WARNING largest_gap; WARNING if not all are healthy
``sequence_repair``        ``health``      WARNING table, column, sequence, action, old_value,
                                           INFO    new_value, gap_fixed, reason; one for each
                                                   sequence that was behind, INFO in a dry run
``sequences_repaired``     ``health``      INFO    sequences, sequences_repaired,
                                           WARNING repair_completed, dry_run; WARNING if something
                                                   is left to repair
``sequence_state_changed`` ``watch``       INFO,   subject, before, now, alert; WARNING if it
                                           WARNING changed for the worse
``sequence_runs_out``      ``watch``       WARNING sequence, seconds
``alert_sent``             ``watch``       INFO    way (command or webhook), code (the exit code,
                                                   or HTTP's)
``alert_failed``           ``watch``       ERROR   way, code, error (its class, or the code in
                                                   words)
========================== =============== ======= ===============================================

The field ``model`` is the name of the class; for link rows (``kind`` is ``link`` or ``unlink``) it
is the name of their table. Each row is logged once, in ``rows_written`` or in ``fallback``, when
its flush has succeeded; the transaction may still be rolled back. A fallback (writer ``orm``) means
that SQLAlchemy wrote the rows because COPY could not or must not, or because they could not travel
together. Rows for which SQLAlchemy's own statement is cheaper (writer ``insert``) are no fallback.
A reservation is logged at once, because a reserved id is used up even if its row is never written.

The same events reach the observers, whatever the loggers' levels: :mod:`sqla_seqreserve.metrics`
counts them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import class_mapper

from ._sqlstate import sqlstate
from .reports import FlushEntry, FlushReport, Kind

Observer: TypeAlias = Callable[[str, Mapping[str, Any]], object]
"""Called with the event and its fields."""

# As SQLAlchemy does: a root logger at INFO is the application's, and gets none of our INFO lines.
_root = logging.getLogger("sqla_seqreserve")
if _root.level == logging.NOTSET:
    _root.setLevel(logging.WARNING)

# Replaced and never changed, so that emit() can iterate over it while another thread adds to it.
_observers: tuple[Observer, ...] = ()


def observe(observer: Observer) -> Callable[[], None]:
    """Call ``observer`` at every event from now on; return a function that ends this."""
    global _observers
    _observers = (*_observers, observer)

    def end() -> None:
        global _observers
        _observers = tuple(known for known in _observers if known is not observer)

    return end


def emit(
    logger: logging.Logger, level: int, event: str, message: str, *arguments: object, **fields: Any
) -> None:
    """Log an event and call the observers."""
    if logger.isEnabledFor(level):
        # The record names the caller's line.
        logger.log(level, message, *arguments, extra={"event": event, **fields}, stacklevel=2)
    for observer in _observers:
        observer(event, fields)


def is_heard(logger: logging.Logger) -> bool:
    """Whether any event of ``logger`` would reach an observer or a log."""
    return bool(_observers) or logger.isEnabledFor(logging.INFO)


_DONE: Final[Mapping[Kind, str]] = {
    "insert": "wrote",
    "update": "updated",
    "delete": "deleted",
    "link": "added",
    "unlink": "removed",
}


def rows_written(logger: logging.Logger, entry: FlushEntry, *, fallback: bool) -> None:
    """Log that rows of a class, or of a link table, were written.

    :param fallback: log it as a fallback: the rows could not go by COPY, or not together.
    """
    table: Any = entry.model
    if not isinstance(table, Table):
        table = class_mapper(table).local_table
    routine = entry.writer == "insert" and not fallback
    emit(
        logger,
        logging.DEBUG if routine else logging.INFO,
        "fallback" if fallback else "rows_written",
        "%s %s %d rows of %s%s",
        entry.writer,
        _DONE[entry.kind],
        entry.rows,
        getattr(table, "name", table),
        f": {entry.reason}" if entry.reason is not None else "",
        model=entry.name,
        kind=entry.kind,
        rows=entry.rows,
        reserved=entry.reserved,
        writer=entry.writer,
        reason=entry.reason,
        seconds=entry.seconds,
    )


def flushed(logger: logging.Logger, report: FlushReport) -> None:
    """Log what a flush wrote, and that it succeeded."""
    for entry in report.entries:
        rows_written(logger, entry, fallback=entry.writer == "orm")
    seconds = sum(entry.seconds for entry in report.entries)
    emit(
        logger,
        logging.DEBUG,
        "flushed",
        "flushed %d rows",
        report.rows,
        rows=report.rows,
        seconds=seconds,
    )


def failed(logger: logging.Logger, error: BaseException) -> None:
    """Log that a flush, a bulk operation or a reservation failed."""
    state = sqlstate(error) if isinstance(error, DBAPIError) else None
    name = type(error).__name__
    emit(
        logger,
        logging.INFO,
        "failed",
        "failed with %s%s",
        name,
        f", SQLSTATE {state}" if state else "",
        error=name,
        sqlstate=state,
    )


@contextmanager
def failures_logged(logger: logging.Logger) -> Iterator[None]:
    """Log any exception that the block, or the decorated function, raises."""
    try:
        yield
    except Exception as error:
        failed(logger, error)
        raise
