"""Names and strings in the text of a statement, as SQLAlchemy and PostgreSQL write them."""

from __future__ import annotations

import re
from typing import Final

QUOTED_NAME: Final = r'"(?:[^"]|"")*"'

NAME: Final = rf"(?:{QUOTED_NAME}|[^\W\d][\w$]*)"
"""A pattern for a name without its schema: in quotes, or a letter or underscore with letters,
underscores, digits and dollar signs after it (PostgreSQL's documentation, "Lexical Structure").
"""

STRING: Final = r"'(?:[^']|'')*'"


def name_of(identifier: str) -> str:
    """The name that an identifier of a statement stands for."""
    return identifier[1:-1].replace('""', '"') if identifier[0] == '"' else identifier


_INTO: Final = re.compile(rf"\s*INSERT INTO (?:{NAME}\.)?({NAME})")


def table_inserted_into(statement: str) -> str:
    """The name of the table that an INSERT writes, without its schema and quotes; empty if it is no
    INSERT. Drivers that insert values into the text want percent signs doubled.
    """
    found = _INTO.match(statement)
    return "" if found is None else name_of(found[1]).replace("%%", "%")
