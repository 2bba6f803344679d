"""Health and repair as class methods of a mapped class.

::

    class Order(SequenceHealthMixin, Base): ...

    Order.sequence_health(session).is_healthy
    Order.repair_sequence(session, dry_run=True)
"""

from __future__ import annotations

from sqlalchemy import inspect

from sqla_seqreserve.errors import SequenceNotFoundError

from ._connection import Bind
from .check import Examined, examine, report_on
from .repair import repair_examined
from .report import RepairResult, SequenceHealth

__all__ = ["SequenceHealthMixin"]


class SequenceHealthMixin:
    """Adds :meth:`sequence_health` and :meth:`repair_sequence` to a mapped class.

    A class that inherits its key from a joined parent answers for the parent's sequence.
    """

    @classmethod
    def sequence_health(cls, session: Bind) -> SequenceHealth:
        """Check the sequence of the class's key; see :func:`~.check.check_sequences`."""
        entries = examine(session, cls)
        report = report_on(entries)
        return report.sequences[_place_of_key(cls, entries)]

    @classmethod
    def repair_sequence(
        cls, session: Bind, dry_run: bool = False, *, allow_exhaustion: bool = False
    ) -> RepairResult:
        """Repair the sequence of the class's key; see :func:`~.repair.repair_sequences`."""
        entries = examine(session, cls, to_write=True)
        report = repair_examined(entries, dry_run=dry_run, allow_exhaustion=allow_exhaustion)
        return report.results[_place_of_key(cls, entries)]


def _place_of_key(cls: type, entries: list[Examined]) -> int:
    """Return the place of the key's entry, or, if no sequence fills the key, of the first."""
    if not entries:
        raise SequenceNotFoundError(
            f"{cls.__name__} has no column that a sequence fills: expected a Sequence, an "
            "identity, or a default that calls nextval"
        )
    key: tuple[object, ...] = inspect(cls).primary_key
    places = (
        place
        for place, entry in enumerate(entries)
        if entry.target is not None and entry.target.column in key
    )
    return next(places, 0)
