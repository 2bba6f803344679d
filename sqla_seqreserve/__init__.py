"""``add_all()`` and ``commit()`` write many rows by COPY under SQLAlchemy's own unit of work, and
every id comes from its sequence.
"""

from __future__ import annotations

from ._flush.explain import Explanation
from .bulk import UpsertResult, bulk_insert, bulk_upsert
from .errors import SeqReserveError
from .health import (
    HealthReport,
    RepairReport,
    SequenceHealth,
    SequenceHealthMixin,
    check_sequences,
    repair_sequences,
)
from .registration import Registration, register
from .reports import FlushEntry, FlushReport
from .reservation import ReservedIds, assign_ids, reserve_ids

__version__ = "0.1.0"

__all__ = [
    "Explanation",
    "FlushEntry",
    "FlushReport",
    "HealthReport",
    "Registration",
    "RepairReport",
    "ReservedIds",
    "SeqReserveError",
    "SequenceHealth",
    "SequenceHealthMixin",
    "UpsertResult",
    "assign_ids",
    "bulk_insert",
    "bulk_upsert",
    "check_sequences",
    "register",
    "repair_sequences",
    "reserve_ids",
]
