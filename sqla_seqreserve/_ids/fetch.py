"""The one statement that takes ids from sequences: ``nextval`` over ``generate_series``, several
sequences at a time.

Each sequence is a branch of a ``UNION ALL``, tagged with its slot. A branch compares the
fingerprint (``_ids.catalogue``) of the key column, or of the whole table where COPY
will write by the cached facts, before it takes anything: where they no longer hold it yields NULL,
takes no id, and the facts are read again. The comparison is an uncorrelated subquery, evaluated
once a branch and not once an id.
"""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from .. import _audit as audit
from .._drivers import Row, driver_of
from .._drivers.statements import run_on_driver
from ..errors import SequenceExhaustedError
from . import catalogue
from .keys import KeySequence, require, resolve

__all__ = ["IdRequest", "check_range", "fetch_ids", "sqlstate", "try_to_fetch_ids"]

log = logging.getLogger("sqla_seqreserve.reservation")

_SEQUENCE_LIMIT_EXCEEDED = "2200H"


@dataclass(frozen=True, slots=True)
class IdRequest:
    """How many ids are wanted from the sequence of one class.

    :param whole: whether all that is known of the table must still hold, not only what is known
        of its key.
    """

    source: KeySequence
    count: int
    whole: bool = False


def sqlstate(error: DBAPIError) -> str | None:
    """The SQLSTATE of a database error, whichever driver raised it."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def fetch_ids(connection: Connection, requests: Sequence[IdRequest]) -> list[list[int]]:
    """Take ids for every request in one round trip; in three where a table has been altered.

    :return: per request its ids in ``nextval`` order.
    :raises SequenceNotFoundError: the sequence of a class is gone.
    :raises SequenceExhaustedError: a sequence has no value left, or its values do not fit the
        column.
    """
    found, stale = try_to_fetch_ids(connection, requests)
    if stale:
        renewed = _renew(connection, [requests[slot] for slot in stale])
        again, _ = try_to_fetch_ids(connection, renewed)
        for slot, ids in zip(stale, again, strict=True):
            found[slot] = ids
    return found


def try_to_fetch_ids(
    connection: Connection,
    requests: Sequence[IdRequest],
    guarded: Sequence[catalogue.TableFacts] = (),
) -> tuple[list[list[int]], list[int]]:
    """Take ids for every request whose facts still hold, in one round trip.

    :param guarded: tables whose facts are to be compared in the same round trip, because rows will
        be written by them.
    :return: per request its ids in ``nextval`` order; and the positions of the requests that got
        none because their table has been altered. Facts that no longer hold are forgotten.
    """
    if not (guarded or any(request.count for request in requests)):
        return [[] for _ in requests], []
    taken: list[list[int]] = []
    stale = []
    found = _execute(connection, requests, guarded)
    for slot, (request, ids) in enumerate(zip(requests, found, strict=True)):
        if None in ids[:1]:
            assert request.source.facts is not None
            catalogue.forget(connection, [request.source.facts.name])
            stale.append(slot)
            taken.append([])
            continue
        taken.append(cast("list[int]", ids))
        if ids:
            check_range(request.source, taken[slot])
            _tell(request, taken[slot])
    return taken, stale


def _execute(
    connection: Connection,
    requests: Sequence[IdRequest],
    guarded: Sequence[catalogue.TableFacts],
) -> list[list[int | None]]:
    parameters: dict[str, Any] = {}
    guards: list[_Guard] = []
    for slot, request in enumerate(requests):
        source = request.source
        facts, sequence, column = source.facts, source.sequence, source.key.column
        assert facts is not None
        assert sequence is not None
        assert column is not None
        parameters[f"sequence_{slot}"] = sequence.name
        parameters[f"count_{slot}"] = request.count
        if request.whole:
            guards.append(_guard_table(facts, slot, parameters))
        else:
            parameters[f"table_{slot}"] = facts.name
            parameters[f"column_{slot}"] = column.name
            parameters[f"print_{slot}"] = facts.columns[column.name].fingerprint
            guards.append(_Guard.KEY)
    guards += [
        _guard_table(facts, slot, parameters) for slot, facts in enumerate(guarded, len(requests))
    ]
    statement = _statement(len(requests), tuple(guards))
    try:
        rows = _query(connection, statement, parameters)
    except DBAPIError as error:
        if sqlstate(error) == _SEQUENCE_LIMIT_EXCEEDED:
            raise SequenceExhaustedError(_exhausted(requests)) from error
        raise
    if len(requests) == 1 and not guarded:
        return [[value for (value,) in rows]]
    found: list[list[int | None]] = [[] for _ in requests]
    altered = []
    for slot, value in rows:
        if slot < len(requests):
            found[slot].append(value)
        elif value is None:
            altered.append(guarded[slot - len(requests)].name)
    catalogue.forget(connection, altered)
    return found


def _query(
    connection: Connection, statement: TextClause, parameters: dict[str, Any]
) -> Sequence[Row]:
    """The rows of the reservation, in one round trip with the BEGIN where the driver can."""
    driver = driver_of(connection.dialect)
    if driver is None:
        return [tuple(row) for row in connection.execute(statement, parameters)]
    rows: list[Row] = []

    def query(cursor: Any, text: str, bound: Any) -> None:
        rows.extend(driver.query(cursor, None, text, bound))

    run_on_driver(connection, statement, parameters, query)
    return rows


class _Guard(enum.Enum):
    """What is compared before an id is taken."""

    KEY = (
        "FROM pg_attribute a WHERE a.attrelid = to_regclass(:table_{slot}) "
        "AND a.attname = CAST(:column_{slot} AS name) "
        f"AND {catalogue.COLUMN_FINGERPRINT} = :print_{{slot}}"
    )
    TABLE = (
        "FROM pg_class c WHERE c.oid = to_regclass(:table_{slot}) "
        f"AND {catalogue.FINGERPRINT} = :print_{{slot}}"
    )
    TABLE_AND_ACTIONS = f"{TABLE} AND {catalogue.ACTION_FINGERPRINT} = :actions_{{slot}}"


def _guard_table(facts: catalogue.TableFacts, slot: int, parameters: dict[str, Any]) -> _Guard:
    parameters[f"table_{slot}"] = facts.name
    parameters[f"print_{slot}"] = facts.fingerprint
    if facts.action_fingerprint is None:
        return _Guard.TABLE
    parameters[f"actions_{slot}"] = facts.action_fingerprint
    return _Guard.TABLE_AND_ACTIONS


@functools.cache
def _statement(requests: int, guards: tuple[_Guard, ...]) -> TextClause:
    tagged = len(guards) > 1 or not requests
    branches = []
    for slot, guard in enumerate(guards):
        tag = f"{slot} AS slot, " if tagged else ""
        holds = guard.value.replace("{slot}", str(slot))
        if slot < requests:
            branches.append(
                f"SELECT {tag}nextval((SELECT to_regclass(:sequence_{slot}) {holds})) AS id "  # noqa: S608  # slots are ours, values are bound
                f"FROM generate_series(1, CAST(:count_{slot} AS bigint))"
            )
        else:
            branches.append(f"SELECT {tag}(SELECT CAST(c.oid AS bigint) {holds}) AS id")
    return text(" UNION ALL ".join(branches))


def _renew(connection: Connection, requests: Sequence[IdRequest]) -> list[IdRequest]:
    """The same requests on facts read anew."""
    renewed = []
    for request in requests:
        mapper = request.source.key.mapper
        source = resolve(connection, [mapper])[mapper]
        require(source)
        renewed.append(replace(request, source=source))
    return renewed


def check_range(source: KeySequence, ids: list[int]) -> None:
    """Refuse ids, in order, that the key column of ``source`` cannot hold.

    :raises SequenceExhaustedError: one is beyond the column's type.
    """
    if ids and not (
        source.minimum <= min(ids[0], ids[-1]) and max(ids[0], ids[-1]) <= source.maximum
    ):
        assert source.key.column is not None
        name = source.sequence.name if source.sequence else "?"
        raise SequenceExhaustedError(
            f"Sequence {name} of {source.key.mapper.class_.__name__} has passed the type of its "
            f"column {source.key.column.name}: it returned {max(ids[0], ids[-1], key=abs)}, the "
            f"column holds {source.minimum} to {source.maximum}. Nothing was written; alter the "
            "column to bigint"
        )


def _exhausted(requests: Sequence[IdRequest]) -> str:
    wanted = []
    for request in requests:
        sequence = request.source.sequence
        if sequence is not None:
            model = request.source.key.mapper.class_.__name__
            wanted.append(
                f"{request.count} for {model} from {sequence.name} "
                f"({sequence.minimum} to {sequence.maximum})"
            )
    return (
        f"A sequence has run out of values. Wanted: {', '.join(wanted)}. Nothing was written; "
        "alter the sequence's type or bounds"
    )


def _tell(request: IdRequest, ids: list[int]) -> None:
    assert request.source.sequence is not None
    name, sequence = request.source.key.mapper.class_.__name__, request.source.sequence.name
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
