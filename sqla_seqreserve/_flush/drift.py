"""``register(..., on_drift=...)``: are the sequences ahead of their tables when an engine is first
used?

The first flush that inserts through a registration checks the sequences of the enrolled classes, on
the connection of that flush, before it reserves or writes anything. Classes whose tables the
database does not have are passed over, as are those that the session binds elsewhere. What is
behind its table by one id or more is *drift*; everything else that a check finds is in its line of
the log, a WARNING if not all are healthy.

Under ``"repair"`` a sequence is left where it is that a repair would use up, for a few ids near the
end of their type: a warning says so, and the flush goes on, unless other ids are ahead of it too.

Under ``"warn"`` and ``"repair"``, or when all is well, an engine is not asked again; under
``"raise"`` it is, until the sequences are repaired. A ``schema_translate_map`` makes it another set
of tables, to be checked on its own. Two first flushes at once may both check, and harm nothing: a
lock held across the queries would stop an event loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from .._database import database_of
from .._sqlalchemy.mapping import all_mappers
from ..errors import SeqReserveError, SequenceDriftError, SequenceDriftWarning
from .settings import OnDrift

if TYPE_CHECKING:
    from ..health.check import Examined

_Key: TypeAlias = tuple["DriftGuard", frozenset[tuple[Any, Any]]]

_settling = Lock()


@dataclass(frozen=True, slots=True)
class DriftGuard:
    """What one registration wants done about drift. Equal guards do not check an engine twice."""

    on_drift: OnDrift
    classes: tuple[type[Any], ...] | None

    def examine(self, session: Session, connections: Iterable[Connection]) -> None:
        """Check the enrolled classes on those connections whose engine was not yet checked.

        :raises SequenceDriftError: a sequence is behind its table and is to be refused, or cannot
            be repaired.
        """
        for connection in connections:
            translate = connection.get_execution_options().get("schema_translate_map") or {}
            key = (self, frozenset(translate.items()))
            if key not in database_of(connection.dialect).without_drift:
                self._examine(session, connection, key)

    def _examine(self, session: Session, connection: Connection, key: _Key) -> None:
        # Here, so that an application that looks for no drift does not import it.
        from ..health.check import examine, report_on

        found = [
            entry
            for entry in examine(connection, self._mappers(session, connection))
            if all(finding.code != "TABLE_MISSING" for finding in entry.health.findings)
        ]
        report_on(found)
        drifted = [entry for entry in found if entry.health.gap]
        if drifted and self.on_drift == "raise":
            raise SequenceDriftError(
                f"{_described(drifted)}Nothing was written. Repair them with repair_sequences(), "
                "the command `sqla-seqreserve repair` or on_drift='repair'"
            )
        kept: list[str] = []
        if drifted and self.on_drift == "repair":
            kept = _repair(connection, drifted)
        with _settling:
            settled = database_of(connection.dialect).without_drift
            first = key not in settled
            settled.add(key)
        if drifted and self.on_drift == "warn" and first:
            warnings.warn(
                f"{_described(drifted)}Inserts will collide. Repair them with repair_sequences() "
                "or the command `sqla-seqreserve repair`",
                SequenceDriftWarning,
                stacklevel=2,
            )
        if kept and first:
            warnings.warn(
                f"{_described(drifted)}on_drift='repair' did not move all of them, and the flush "
                f"goes on. {'; '.join(kept)}",
                SequenceDriftWarning,
                stacklevel=2,
            )

    def _mappers(self, session: Session, connection: Connection) -> list[Mapper[Any]]:
        return [
            mapper
            for mapper in all_mappers()
            if (self.classes is None or issubclass(mapper.class_, self.classes))
            and _is_bound_to(session, mapper, connection)
        ]


def _is_bound_to(session: Session, mapper: Mapper[Any], connection: Connection) -> bool:
    try:
        return session.get_bind(mapper.base_mapper).engine is connection.engine
    except UnboundExecutionError:
        return False


def _repair(connection: Connection, drifted: Sequence[Examined]) -> list[str]:
    """Repair them; return why some were left where they are, well before the ids they would meet.

    A few ids near the end of their type, which a repair would use up, are in nobody's way before
    the sequence comes near them; so these sequences are no reason to refuse the flush.
    """
    from ..health.repair import repair_sequences

    tables = [entry.target.table for entry in drifted if entry.target is not None]
    try:
        results = repair_sequences(connection, tables).results
    except SeqReserveError as error:
        raise SequenceDriftError(
            f"{_described(drifted)}on_drift='repair' could not repair them all, and nothing was "
            f"written: {error}"
        ) from error
    kept = [
        f"{result.sequence}: {result.reason}"
        for result in results
        if result.outlying is not None and result.outlying.free
    ]
    left = [
        f"{result.sequence}: {result.reason}"
        for result in results
        if result.action == "NOT_REPAIRABLE" and not (result.outlying and result.outlying.free)
    ]
    if left:
        raise SequenceDriftError(
            f"{_described(drifted)}on_drift='repair' could not repair them all, and nothing was "
            f"written. {'; '.join(left)}"
        )
    return list(dict.fromkeys(kept))


def _described(drifted: Iterable[Examined]) -> str:
    messages = [
        finding.message
        for entry in drifted
        for finding in entry.health.findings
        if finding.code == "BEHIND"
    ]
    # Tables that share a sequence say the same.
    lines = [f"  {message}" for message in dict.fromkeys(messages)]
    return "\n".join(["Sequences are behind their tables:", *lines, ""])
