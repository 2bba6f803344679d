"""Are the sequences ahead of their tables, and how are they put there again?

:func:`check_sequences` looks, :func:`repair_sequences` moves what is behind, and
:class:`SequenceHealthMixin` offers both on a mapped class. :mod:`.report` explains what they
return. All three work in the caller's transaction, inside ``AsyncSession.run_sync`` too.
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
