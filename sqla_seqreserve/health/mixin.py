"""Health and repair as class methods of a mapped class.

::

    class Order(SequenceHealthMixin, Base): ...

    Order.sequence_health(session).is_healthy
    Order.repair_sequence(session, dry_run=True)
"""

from __future__ import annotations

from sqla_seqreserve.errors import SequenceNotFoundError

from ._connection import Bind
from .check import check_sequences
from .repair import repair_sequences
from .report import RepairResult, SequenceHealth

__all__ = ["SequenceHealthMixin"]


class SequenceHealthMixin:
    """Adds :meth:`sequence_health` and :meth:`repair_sequence` to a mapped class.

    A class that inherits its key from a joined parent answers for the parent's sequence.
    """

    @classmethod
    def sequence_health(cls, session: Bind) -> SequenceHealth:
        """Check the sequence of the class's key; see :func:`~.check.check_sequences`."""
        entries = check_sequences(session, cls).sequences
        if not entries:
            raise _without_sequence(cls)
        return entries[0]

    @classmethod
    def repair_sequence(
        cls, session: Bind, dry_run: bool = False, *, allow_exhaustion: bool = False
    ) -> RepairResult:
        """Repair the sequence of the class's key; see :func:`~.repair.repair_sequences`."""
        results = repair_sequences(
            session, cls, dry_run=dry_run, allow_exhaustion=allow_exhaustion
        ).results
        if not results:
            raise _without_sequence(cls)
        return results[0]


def _without_sequence(cls: type) -> SequenceNotFoundError:
    return SequenceNotFoundError(
        f"{cls.__name__} has no column that a sequence fills: expected a Sequence, an identity, "
        "or a default that calls nextval"
    )
