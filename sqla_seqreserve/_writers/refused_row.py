"""Finds which row of a COPY the server refused, from the context of its error. The result is only
for people to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError

_LINE: Final = re.compile(r"\D*(\d+)")


@contextmanager
def refused_row_noted(
    table: str, target: str, numbers: Sequence[int], start: int = 0
) -> Iterator[None]:
    """Add a note to the error of a COPY that says which row it is about.

    :param table: the bare name of the table that COPY writes.
    :param target: the name of the table that the rows are for.
    :param numbers: the position of each row among the rows that the user gave, counted from
        ``start``.
    """
    try:
        yield
    except DBAPIError as error:
        line = line_in(error_fields(error)[0], table)
        if line is not None and line < len(numbers):
            error.add_note(f"The database refused row {start + numbers[line]} for {target}")
        raise


def error_fields(error: DBAPIError) -> tuple[str, str]:
    """Context and detail of PostgreSQL's error, from libpq's fields or from the driver error that
    SQLAlchemy's adapted error wraps.
    """
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return diagnosis.context or "", diagnosis.message_detail or ""
    below = getattr(error.orig, "__cause__", None)
    return getattr(below, "context", None) or "", getattr(below, "detail", None) or ""


def line_in(context: str, table: str) -> int | None:
    """The position, from 0, of the row that a COPY into ``table`` (its bare name) was writing, from
    the context of its error; ``None`` if the context does not say it.
    """
    prefix = f"COPY {table}, "
    if not context.startswith(prefix):
        return None
    match = _LINE.match(context, len(prefix))
    return int(match[1]) - 1 if match else None
