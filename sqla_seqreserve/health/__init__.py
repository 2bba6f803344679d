"""Checks whether the sequences are ahead of their tables, and repairs those that are not.

:func:`check_sequences` checks, :func:`repair_sequences` moves sequences that are behind, and
:class:`SequenceHealthMixin` offers both on a mapped class. :mod:`.report` explains their results.
All three work in the caller's transaction, also inside ``AsyncSession.run_sync``.
"""

from __future__ import annotations

from .check import check_sequences
from .mixin import SequenceHealthMixin
from .repair import repair_sequences
from .report import (
    Finding,
    HealthReport,
    OutlyingIds,
    Privileges,
    Refusal,
    RepairReport,
    RepairResult,
    SequenceHealth,
)

__all__ = [
    "Finding",
    "HealthReport",
    "OutlyingIds",
    "Privileges",
    "Refusal",
    "RepairReport",
    "RepairResult",
    "SequenceHealth",
    "SequenceHealthMixin",
    "check_sequences",
    "repair_sequences",
]
