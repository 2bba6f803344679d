"""The one message that takes ids from sequences: lock, compare, ``nextval``.

Ids come from ``nextval`` over ``generate_series``. Several sequences go at a time, each as a branch
of a ``UNION ALL`` tagged with its slot. Before that, in the same message, the tables are locked as
the later INSERTs will lock them (``ROW EXCLUSIVE``, parents first). From then until the transaction
ends no other session can alter them; and DDL, which locks the table before its sequence, waits and
cannot deadlock. Then the message compares what the facts (``_ids.catalogue``) were read from. If
anything has changed, no branch takes an id, the branches of altered tables yield NULL, and their
facts are read again. The comparison is an uncorrelated subquery, evaluated once per branch and not
once per id.

A key that comes from another default (``gen_random_uuid()``, a function) is a branch that evaluates
this default, after its text was compared too. Its values are in a column of their type next to the
ids; a message of sequences alone has no such column. A default that gives the same value twice
reads the table (``max(id) + 1``), so it must be evaluated row by row: from then on it is left to
INSERT.

A query sees the transaction's snapshot. If that may be older than the lock (REPEATABLE READ and
SERIALIZABLE, once anything has been read), nothing can be compared, and nothing is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, TextClause
from sqlalchemy.exc import DBAPIError

from .. import _audit as audit
from .. import _reasons as why
from .._database import known_of
from .._drivers import Comparison, LockRefusedError
from .._reasons import Reason
from .._sqlstate import sqlstate
from ..errors import SequenceExhaustedError
from . import catalogue
from .catalogue import TableFacts
from .keys import KeySequence, check_range
from .reservation_sql import comparison
from .reservation_statement import IdRequest, IndexFacts, ReservationStatement
from .table_names import TableName, stored_name

log = logging.getLogger("sqla_seqreserve.reservation")

_MOST_TEXTS: Final = 256

_SEQUENCE_LIMIT_EXCEEDED = "2200H"
_INT4_MAXIMUM: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """The result of one message: for each request its ids in ``nextval`` order, as the driver gives
    them, and whether every fact that was sent along is still true. If not, no id of the altered
    tables was taken, and their facts are discarded.
    """

    ids: list[list[Any]]
    holds: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one message takes, and what it compares first.

    :param requests: how many ids of each key.
    :param tables: tables of which all facts must still be true, because rows will be written
        according to them; for the others, only the facts of the key.
    :param indexes: indexes of those tables, to be compared too.
    :param kept: keys of which no id is taken because kept ids are used; their facts must still be
        true too.
    :param order: the order in which the tables are locked; by default, the order of ``tables``.
    """

    requests: Sequence[IdRequest]
    tables: Sequence[TableFacts] = ()
    indexes: Sequence[IndexFacts] = ()
    kept: Sequence[KeySequence] = ()
    order: Iterable[TableName] = ()


def take_ids(connection: Connection, wanted: Wanted) -> Reservation:
    """Take ids, in one message, for every request whose facts are still true.

    :raises SequenceExhaustedError: a sequence has no value left, or its values do not fit the
        column.
    """
    requests = wanted.requests
    guarded = {facts.name: facts for facts in wanted.tables}
    if not (guarded or wanted.kept or any(request.count for request in requests)):
        return Reservation([[] for _ in requests], True)
    statement = ReservationStatement(
        connection, requests, guarded, wanted.indexes, wanted.kept, wanted.order
    )
    try:
        rows = statement.run()
    except LockRefusedError:
        catalogue.forget(connection, statement.tables)
        return Reservation([[] for _ in requests], False)
    except DBAPIError as error:
        if sqlstate(error) == _SEQUENCE_LIMIT_EXCEEDED:
            raise SequenceExhaustedError(_exhausted(requests)) from error
        if statement.types:
            # A function that a default calls may be dropped, or forbidden, by now.
            catalogue.forget(connection, statement.tables)
        raise
    found: list[list[Any]] = [[] for _ in requests]
    altered: set[str] = set()
    for slot, group in groupby(rows, key=itemgetter(0)):
        taken = list(group)
        if slot < 0:
            # The row of another branch already shows that the table was altered.
            continue
        if None in map(itemgetter(1), taken):
            altered.add(statement.names[slot])
        elif slot < len(requests):
            found[slot] += map(itemgetter(statement.place(slot)), taken)
    catalogue.forget(connection, altered)
    for request, ids in zip(requests, found, strict=True):
        if ids and request.source.default is not None:
            problem = _problem_of(request.source, ids)
            if problem is not None:
                _distrust(connection, request.source, problem)
                return Reservation([[] for _ in requests], False)
        if ids:
            check_range(request.source, ids)
            _log_reserved(request, ids)
    return Reservation(found, not altered)


class _Texts(dict[TextClause, str]):
    """The text of each comparison that precedes INSERTs, as an engine's driver takes it."""


def comparison_of(
    connection: Connection,
    kept: Sequence[KeySequence],
    numbered: Sequence[tuple[TableFacts, str | None]],
    *,
    before_snapshot: bool,
) -> Comparison:
    """Return what must precede INSERTs with kept keys in their message. No I/O happens.

    :param numbered: tables whose INSERT returns a key, with the column that is numbered; ``None``:
        other columns are compared, too.
    :param before_snapshot: the lock is taken before the transaction has a snapshot.
    """
    statement = ReservationStatement(connection, (), {}, (), kept, numbered=numbered)
    query = comparison(statement.branches, before_snapshot)
    texts = known_of(connection.dialect, _Texts)
    sent = texts.get(query)
    if sent is None:
        if len(texts) >= _MOST_TEXTS:
            texts.clear()
        sent = texts[query] = str(query.compile(dialect=connection.dialect))
    return Comparison(statement.locking(), sent, statement.parameters)


def comparison_of_table(
    connection: Connection, facts: TableFacts, column: str | None, *, before_snapshot: bool
) -> Comparison:
    """Return the same for one table that Citus does not manage; made once and kept with the table's
    facts.
    """
    found = facts.comparisons.get((column, before_snapshot))
    if found is None:
        found = comparison_of(connection, (), [(facts, column)], before_snapshot=before_snapshot)
        facts.comparisons[column, before_snapshot] = found
    return found


def _problem_of(source: KeySequence, values: Sequence[Any]) -> Reason | None:
    """Say why INSERT would have stored other values of a default, as far as the values show it."""
    if None in values:
        return why.default_gave(source.origin, "NULL")
    if len(set(values)) < len(values):
        return why.default_gave(source.origin, "one value twice")
    if any(type(value) is str and value.endswith(" ") for value in values):
        # varchar(n) removes them where the text is too long.
        return why.default_gave(source.origin, "a text with spaces at its end")
    return None


def _distrust(connection: Connection, source: KeySequence, problem: Reason) -> None:
    assert source.facts is not None
    assert source.key.column is not None
    column = stored_name(source.key.column.name)
    catalogue.distrust(connection, source.facts, column, problem)


def _exhausted(requests: Sequence[IdRequest]) -> str:
    wanted = []
    small = False
    for request in requests:
        sequence, facts = request.source.sequence, request.source.facts
        bounds = "" if sequence is None else f" ({sequence.minimum} to {sequence.maximum})"
        model = request.source.key.mapper.class_.__name__
        wanted.append(f"{request.count} for {model} from {request.source.origin}{bounds}")
        if sequence is not None and facts is not None and facts.distributed:
            small |= sequence.maximum <= _INT4_MAXIMUM
    if small:
        remedy = (
            "Of a distributed table's sequence that is smaller than bigint only the coordinator of "
            "Citus hands out values, and no worker. Insert through the coordinator, or make the "
            "column and its sequence bigint before the table is distributed"
        )
    else:
        remedy = "Alter the sequence's type or bounds"
    return (
        f"A sequence has run out of values. Wanted: {', '.join(wanted)}. Nothing was written. "
        f"{remedy}"
    )


def _log_reserved(request: IdRequest, ids: Sequence[Any]) -> None:
    name, sequence = request.source.key.mapper.class_.__name__, request.source.origin
    audit.emit(
        log,
        logging.INFO,
        "ids_reserved",
        "reserved %d ids for %s from %s",
        len(ids),
        name,
        sequence,
        model=name,
        sequence=sequence,
        count=len(ids),
    )
