"""UPDATEs and DELETEs for which the server itself checks that each matches one row. They are used
with a driver that returns only the row count of a message's last statement, and if the COMMIT
follows in the same message.

A statement that matches another number of rows fails, and so does everything after it. A savepoint
then undoes the message, and its statements are sent one by one, so that SQLAlchemy counts and
refuses them as usual. For a table with rules, and so for a view, the returned rows need not be the
counted rows: such a message is undone as well.
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
"""The server refuses the first if all statements were executed: the savepoint is gone then."""

# The statement may end with a comment ("-- ...").
COUNTED: Final = (
    f"WITH {_FOUND} AS (",
    f"\nRETURNING 1) SELECT 1 / (count(*) = 1)::int FROM {_FOUND}",  # noqa: S608  # our own name
)
"""The text before and after a statement for one row."""


MISCOUNTED: Final = frozenset({"22012", "0A000"})
"""SQLSTATEs of a statement that matches another number of rows, or whose table has rules."""


def without_rules(tables: Iterable[str]) -> str:
    """The query, after the statements of these tables, that fails if one of the tables has rules.
    The statements hold the tables' locks by then.
    """
    names = ", ".join(f"to_regclass({literal(name)})" for name in sorted(tables))
    return (
        "SELECT 1 / (count(*) = 0)::int FROM pg_catalog.pg_class "  # noqa: S608  # literals
        f"WHERE relhasrules AND oid IN ({names})"
    )


def end_counting(tables: Iterable[str]) -> str:
    """As :func:`without_rules`, with the end of the savepoint."""
    return f"{without_rules(tables)};RELEASE SAVEPOINT {_SAVEPOINT}"
