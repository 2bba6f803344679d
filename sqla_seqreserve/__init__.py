"""``add_all()`` and ``commit()`` write many rows by COPY under SQLAlchemy's own unit of work, and
every id comes from its sequence.

The parts that ``register()`` needs are imported with the package, all others at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .errors import SeqReserveError
from .registration import Registration, register
from .reports import FlushEntry, FlushReport

if TYPE_CHECKING:
    from ._flush.explain import Explanation
    from .bulk import (
        SyncResult,
        UpdateResult,
        UpsertResult,
        bulk_delete,
        bulk_insert,
        bulk_sync,
        bulk_update,
        bulk_upsert,
    )
    from .copy_codecs import CopyCodec
    from .health import (
        HealthReport,
        RepairReport,
        SequenceHealth,
        SequenceHealthMixin,
        check_sequences,
        repair_sequences,
    )
    from .reservation import ReservedIds, assign_ids, reserve_ids

__version__ = "0.1.0"

__all__ = [
    "CopyCodec",
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
    "SyncResult",
    "UpdateResult",
    "UpsertResult",
    "assign_ids",
    "bulk_delete",
    "bulk_insert",
    "bulk_sync",
    "bulk_update",
    "bulk_upsert",
    "check_sequences",
    "register",
    "repair_sequences",
    "reserve_ids",
]

_HOMES: Final = {
    "_flush.explain": ("Explanation",),
    "bulk": (
        "SyncResult",
        "UpdateResult",
        "UpsertResult",
        "bulk_delete",
        "bulk_insert",
        "bulk_sync",
        "bulk_update",
        "bulk_upsert",
    ),
    "copy_codecs": ("CopyCodec",),
    "health": (
        "HealthReport",
        "RepairReport",
        "SequenceHealth",
        "SequenceHealthMixin",
        "check_sequences",
        "repair_sequences",
    ),
    "reservation": ("ReservedIds", "assign_ids", "reserve_ids"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

# Hidden from type checkers, which would otherwise accept any name as an attribute of this package.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of ``__all__``, or the module that has it, at its first use."""
        if name in _HOMES:
            return import_module(f".{name}", __name__)
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home}", __name__), name)
        globals()[name] = value  # found without us from now on
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
