"""Names in SQL form, so that a remedy can be pasted (no I/O)."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql.base import PGDialect

# Not the connection's: a driver with %-parameters doubles each % of a name.
_PREPARER = PGDialect(  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    paramstyle="named"
).identifier_preparer


def quoted(name: str) -> str:
    """Return the name, in quotes where it needs them."""
    return _PREPARER.quote(name)


def label_of(schema: str, name: str, *, visible: bool) -> str:
    """Return the name, with its schema unless ``search_path`` finds it without."""
    return quoted(name) if visible else f"{quoted(schema)}.{quoted(name)}"


def literal(text: str) -> str:
    """Return the text as a string literal."""
    return "'" + text.replace("'", "''") + "'"
