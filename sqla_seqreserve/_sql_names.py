"""Names and strings in the text of a statement, as SQLAlchemy and PostgreSQL write them."""

from __future__ import annotations

from typing import Final

QUOTED_NAME: Final = r'"(?:[^"]|"")*"'

NAME: Final = rf"(?:{QUOTED_NAME}|[A-Za-z_][\w$]*)"
"""A pattern for a name without its schema: others than these characters are always quoted."""

STRING: Final = r"'(?:[^']|'')*'"


def name_of(identifier: str) -> str:
    """The name that an identifier of a statement stands for."""
    return identifier[1:-1].replace('""', '"') if identifier[0] == '"' else identifier
