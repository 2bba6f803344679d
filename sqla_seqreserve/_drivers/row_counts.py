"""UPDATEs and DELETEs of which the server itself compares that each matches one row: for a driver
that hands on the count of a message's last statement alone, and where the COMMIT follows in the
same message.

A statement that matches another number of rows fails, and with it all that is behind it. A
savepoint undoes the message then, and its statements are sent one by one, so that what is counted
and refused is what it would have been. Of a table with rules, and so of a view, the rows that come
back need not be those that are counted: the same is done there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .text_format import literal

_FOUND: Final = "sqla_seqreserve_found"
_SAVEPOINT: Final = "sqla_seqreserve_count"

BEGIN_COUNTING: Final = f"SAVEPOINT {_SAVEPOINT}"

UNDO_COUNTING: Final = (
    f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}",
    f"RELEASE SAVEPOINT {_SAVEPOINT}",
)
"""The first is refused where all statements were carried out, for then the savepoint is gone."""

# The statement may end with a comment ("-- ...").
COUNTED: Final = (
    f"WITH {_FOUND} AS (",
    f"\nRETURNING 1) SELECT 1 / (count(*) = 1)::int FROM {_FOUND}",  # noqa: S608  # our own name
)
"""What is before and behind a statement of one row."""


MISCOUNTED: Final = frozenset({"22012", "0A000"})
"""SQLSTATEs of a statement that matches another number of rows, or whose table has rules."""


def without_rules(tables: Iterable[str]) -> str:
    """What is behind the statements of these tables, whose locks they hold by then."""
    names = ", ".join(f"to_regclass({literal(name)})" for name in sorted(tables))
    return (
        "SELECT 1 / (count(*) = 0)::int FROM pg_catalog.pg_class "  # noqa: S608  # literals
        f"WHERE relhasrules AND oid IN ({names})"
    )


def end_counting(tables: Iterable[str]) -> str:
    """The same with the end of the savepoint."""
    return f"{without_rules(tables)};RELEASE SAVEPOINT {_SAVEPOINT}"
