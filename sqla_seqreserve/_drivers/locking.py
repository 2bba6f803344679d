"""The lock of a table in an open transaction, with a savepoint around it alone: its refusal fails
nothing else.
"""

from __future__ import annotations

from typing import Final

LOCK_REFUSED: Final = frozenset({"42501", "42P01", "3F000", "42809"})
"""SQLSTATEs of a ``LOCK TABLE`` that cannot be had: no privilege on the whole table, no such table
or schema, not a table.
"""

OUTDATED: Final = LOCK_REFUSED | {"22012"}
"""SQLSTATEs of a lock that cannot be had, and of a comparison under it that does not hold, for then
it divides by zero.
"""

_SAVEPOINT: Final = "sqla_seqreserve_lock"

UNDO: Final = (f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}", f"RELEASE SAVEPOINT {_SAVEPOINT}")
"""Statements that undo the refusal. The first is refused where the lock was granted, for then the
savepoint is gone.
"""


class LockRefusedError(Exception):
    """A table could not be locked as an INSERT would lock it; nothing else was run."""


class OutdatedError(Exception):
    """What a message was made by no longer holds; nothing of it was run, and the transaction is as
    it was before.
    """


class MiscountedError(OutdatedError):
    """An UPDATE or DELETE of a message matched another number of rows than it was to match, or its
    table has rules; nothing was done, either.
    """


def guarded(lock: str) -> tuple[str, str, str]:
    """The statements of a lock with its savepoint."""
    return f"SAVEPOINT {_SAVEPOINT}", lock, f"RELEASE SAVEPOINT {_SAVEPOINT}"
