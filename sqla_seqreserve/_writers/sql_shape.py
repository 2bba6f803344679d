"""Reads the text of a compiled UPDATE, DELETE or INSERT far enough to know that it means the same
for all rows at once: that no row of parameters can see, or change, what another row wrote.

This module does not parse SQL. Statements of other shapes than those below are executed row by row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .._sql_names import NAME, QUOTED_NAME, STRING, name_of

_COLUMN: Final = rf"(?:{NAME}\.)*(?P<column>{NAME})"
_TOKEN: Final = re.compile(rf"{STRING}|{QUOTED_NAME}")
_ASSIGNED: Final = re.compile(rf"(?:\bSET |, )({NAME})=")
_UNREADABLE: Final = re.compile(r"--|/\*|\$[\w$]*\$|\b[EeUu]&?''")
_CALL: Final = re.compile(r"([\w\"\].]+)\s*\(")
_SEEING: Final = re.compile(r"\b(?:SELECT|TABLE|DEFAULT|OVER|CURRENT\s+OF)\b", re.IGNORECASE)

_KNOWN: Final = frozenset(
    word
    for line in (
        "and or not in when then else case end cast as interval values any all row between is like",
        "ilike varchar char character varying numeric decimal timestamp time bit float zone",
        "abs btrim cardinality ceil ceiling coalesce concat date_trunc extract floor greatest",
        "initcap least left length lower ltrim mod now nullif power replace right round rtrim sign",
        "sqrt substr substring timezone trim trunc upper array_append array_cat array_prepend",
        "array_remove gen_random_uuid jsonb_build_object jsonb_set",
    )
    for word in line.split()
)
"""Keywords and types that may precede a bracket, and functions of PostgreSQL that read nothing but
their arguments.
"""


def words(text: str) -> str | None:
    """The text with all strings and quoted names emptied; ``None`` if it is not certain where these
    end.
    """
    for token in _TOKEN.finditer(text):
        if token[0][0] == "'" and "\\" in token[0]:
            # The meaning of a backslash depends on a setting of the session.
            return None
    bare = _TOKEN.sub(lambda found: found[0][0] * 2, text)
    if _UNREADABLE.search(bare) or bare.count("'") % 2 or bare.count('"') % 2:
        return None
    return bare


def sees_nothing_else(expressions: str) -> bool:
    """Whether nothing in the expressions may read another row or depend on the order of the rows:
    they contain no query, and no function but those that are known here.

    :param expressions: text with empty strings, from :func:`words`.
    """
    if _SEEING.search(expressions):
        return False
    return all(found[1].lower() in _KNOWN for found in _CALL.finditer(expressions))


def assigned_columns(head: str) -> frozenset[str]:
    """The columns that an UPDATE sets, as SQLAlchemy writes it: ``SET a=..., b=...``."""
    blank = _blanked_strings(head)
    return frozenset(map(name_of, _ASSIGNED.findall(blank)))


def _blanked_strings(text: str) -> str:
    return _TOKEN.sub(lambda found: "''" if found[0][0] == "'" else found[0], text)


def columns_compared(condition: str, source: str) -> Mapping[str, str] | None:
    """The columns that a WHERE compares with one placeholder each, by the placeholder's name. It
    may also compare columns with NULL; ``None`` if it does anything else.

    :param source: the name that precedes each placeholder's name.
    """
    equal = re.compile(rf"{_COLUMN} = {re.escape(source)}\.(?P<name>\w+)")
    null = re.compile(rf"{_COLUMN} IS (?:NOT )?NULL")
    found: dict[str, str] = {}
    for term in condition.split(" AND "):
        match = equal.fullmatch(term)
        if match is not None:
            found[match["name"]] = name_of(match["column"])
        elif null.fullmatch(term) is None:
            return None
    return found
