"""``register(..., on_drift=...)``: checks, when an engine is first used, whether the sequences are
ahead of their tables.

The first flush that inserts through a registration checks the sequences of the enrolled classes on
its own connection, before it reserves or writes anything. It skips classes whose tables do not
exist in the database, and classes that the session binds to another engine. A sequence that is
behind its table by one id or more has *drift*. The check logs everything else that it finds in one
line, as a WARNING if not all sequences are healthy.

A table may hold a few ids near the end of their type; a repair would then use the sequence up.
``"repair"`` does not move such a sequence: it warns, and the flush goes on, unless other ids are
ahead of the sequence too.

Under ``"warn"`` and ``"repair"``, or if all is well, an engine is not checked again; under
``"raise"`` it is, until the sequences are repaired. With another ``schema_translate_map`` the
tables are different ones and are checked separately. Two first flushes at the same time may both
check, which does no harm: a lock held during the queries would block an event loop.
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

from .._database import known_of
from .._sqlalchemy.mapping import all_mappers
from ..errors import SeqReserveError, SequenceDriftError, SequenceDriftWarning
from .settings import OnDrift, Settings

if TYPE_CHECKING:
    from ..health.check import Examined

_Key: TypeAlias = tuple["DriftGuard", frozenset[tuple[Any, Any]]]

_settling = Lock()


class _Settled(set[_Key]):
    """The checks of an engine's database that need not be repeated."""


@dataclass(frozen=True, slots=True)
class DriftGuard:
    """What one registration does about drift. Equal guards do not check an engine twice."""

    on_drift: OnDrift
    classes: tuple[type[Any], ...] | None

    @classmethod
    def of(cls, settings: Settings) -> DriftGuard:
        """Return the guard that a registration asks for."""
        return cls(settings.on_drift, settings.classes)

    def examine(self, session: Session, connections: Iterable[Connection]) -> None:
        """Check the enrolled classes on those connections whose engine was not yet checked.

        :raises SequenceDriftError: a sequence is behind its table, and ``on_drift`` is ``"raise"``
            or the sequence cannot be repaired.
        """
        for connection in connections:
            translate = connection.get_execution_options().get("schema_translate_map") or {}
            key = (self, frozenset(translate.items()))
            if key not in known_of(connection.dialect, _Settled):
                self._examine(session, connection, key)

    def _examine(self, session: Session, connection: Connection, key: _Key) -> None:
        # Imported here, so that an application that ignores drift does not import it.
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
            settled = known_of(connection.dialect, _Settled)
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
    """Repair the sequences; return why some were not moved although ids are ahead of them.

    If the only ids ahead of a sequence are a few near the end of their type, a repair would use the
    sequence up. No new id collides with them before the sequence comes near, so such a sequence is
    no reason to refuse the flush.
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
    # Tables that share a sequence have the same message.
    lines = [f"  {message}" for message in dict.fromkeys(messages)]
    return "\n".join(["Sequences are behind their tables:", *lines, ""])
