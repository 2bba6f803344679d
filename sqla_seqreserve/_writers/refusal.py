"""Which row of a COPY the server refused. It says so in the context of its error, which is for
people: nothing depends on it.
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy.exc import DBAPIError

__all__ = ["copy_line", "line_in"]

_LINE: Final = re.compile(r"\D*(\d+)")


def copy_line(error: DBAPIError, table: str) -> int | None:
    """The position, from 0, of the row that a COPY into ``table`` (its bare name) was at; ``None``:
    not told.
    """
    diagnosis = getattr(error.orig, "diag", None)
    return None if diagnosis is None else line_in(diagnosis.context or "", table)


def line_in(context: str, table: str) -> int | None:
    """The same, from the context of an error."""
    prefix = f"COPY {table}, "
    if not context.startswith(prefix):
        return None
    match = _LINE.match(context, len(prefix))
    return int(match[1]) - 1 if match else None
