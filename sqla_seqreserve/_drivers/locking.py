"""The lock of a table in an open transaction. A savepoint around the lock alone keeps a refused
lock from failing the transaction.
"""

from __future__ import annotations

from typing import Final

LOCK_REFUSED: Final = frozenset({"42501", "42P01", "3F000", "42809"})
"""SQLSTATEs of a refused ``LOCK TABLE``: no privilege on the whole table, no such table or schema,
not a table.
"""

OUTDATED: Final = LOCK_REFUSED | {"22012"}
"""SQLSTATEs of a refused lock, and of a comparison under the lock that does not hold: it divides by
zero.
"""

_SAVEPOINT: Final = "sqla_seqreserve_lock"

UNDO: Final = (f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}", f"RELEASE SAVEPOINT {_SAVEPOINT}")
"""Statements that undo the refusal. The server refuses the first if the lock was granted, because
then the savepoint no longer exists.
"""


class LockRefusedError(Exception):
    """A table could not be locked as an INSERT would lock it; nothing else was executed."""


class OutdatedError(Exception):
    """The facts on which a message was based no longer hold; none of its statements was executed,
    and the transaction is as it was before.
    """


class MiscountedError(OutdatedError):
    """An UPDATE or DELETE of a message matched another number of rows than expected, or its table
    has rules; the message has no effect in this case either.
    """


def guarded(lock: str) -> tuple[str, str, str]:
    """A lock with the statements that set and release its savepoint."""
    return f"SAVEPOINT {_SAVEPOINT}", lock, f"RELEASE SAVEPOINT {_SAVEPOINT}"
