"""The lock of a table in an open transaction, with a savepoint around it alone: its refusal fails
nothing else.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LOCK_REFUSED", "UNDO", "LockRefusedError", "guarded"]

LOCK_REFUSED: Final = frozenset({"42501", "42P01", "3F000", "42809"})
"""SQLSTATEs of a ``LOCK TABLE`` that cannot be had: no privilege on the whole table, no such table
or schema, not a table.
"""

_SAVEPOINT: Final = "sqla_seqreserve_lock"

UNDO: Final = (f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}", f"RELEASE SAVEPOINT {_SAVEPOINT}")
"""Statements that undo the refusal. The first is refused where the lock was granted, for then the
savepoint is gone.
"""


class LockRefusedError(Exception):
    """A table could not be locked as an INSERT would lock it; nothing else was run."""


def guarded(lock: str) -> tuple[str, str, str]:
    """The statements of a lock with its savepoint."""
    return f"SAVEPOINT {_SAVEPOINT}", lock, f"RELEASE SAVEPOINT {_SAVEPOINT}"
