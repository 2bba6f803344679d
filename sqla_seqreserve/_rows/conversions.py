"""What makes a value of another type exact for a column."""

from __future__ import annotations

import enum
import re
from math import isfinite
from typing import Any, Final

_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)


def whole_number(value: Any) -> Any:
    """The integer that a float or Decimal is; the value itself where the server would round it."""
    return int(value) if isfinite(value) and value == int(value) else value


def integer_of(text: str) -> int | str:
    """The number that the server would read, where any version reads it so."""
    return int(text) if _DIGITS.match(text) else text


def name_of(member: enum.Enum) -> str:
    """An enum's member as psycopg writes it."""
    return member.name
