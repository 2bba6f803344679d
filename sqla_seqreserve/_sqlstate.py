"""Reads PostgreSQL's five-character error code, SQLSTATE, whichever driver raised the error."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError

LOCK_NOT_AVAILABLE: Final = "55P03"
"""A lock was not free at once (``NOWAIT``), or not within ``lock_timeout``."""


def sqlstate(error: DBAPIError) -> str | None:
    """The SQLSTATE of a database error; ``None``: the error did not come from the server."""
    return sqlstate_of(error.orig)


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE of a driver's own error."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
