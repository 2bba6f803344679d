"""Functions that turn values of other types into exact ones for a column."""

from __future__ import annotations

import enum
import re
from math import isfinite
from typing import Any, Final

_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)


def whole_number(value: Any) -> Any:
    """Return the integer that a float or Decimal equals; the value itself if the server would round
    it.
    """
    return int(value) if isfinite(value) and value == int(value) else value


def integer_of(text: str) -> int | str:
    """Return the number that the server would read, if every version reads the text that way."""
    return int(text) if _DIGITS.match(text) else text


def name_of(member: enum.Enum) -> str:
    """Return an enum member as psycopg writes it."""
    return member.name
