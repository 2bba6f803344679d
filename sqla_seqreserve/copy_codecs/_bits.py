"""bit and varbit, as text: SQLAlchemy's own and pgvector's ``BIT``.

An INSERT of several rows casts to the model's type, which pads or cuts a text of another length; an
INSERT of one row refuses it. So only texts of the exact length go by COPY.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.dialects.postgresql import BIT

from ._codec import CopyColumn, Encode

__all__ = ["CODEC", "bits_encoder"]

_DIGITS: Final = frozenset("01")


class _Bits:
    """The codec of bit and varbit columns with SQLAlchemy's own type."""

    def binary(self, column: CopyColumn) -> Encode | None:  # noqa: ARG002  # the protocol's
        return None

    def text(self, column: CopyColumn) -> Encode | None:
        if not isinstance(column.type, BIT) or _is_left_to_asyncpg(column):
            return None
        return bits_encoder(column, column.type)


CODEC: Final = _Bits()


def _is_left_to_asyncpg(column: CopyColumn) -> bool:
    """Whether asyncpg would get the text and refuse it: SQLAlchemy before 2.1 does not convert it
    to bits.
    """
    dialect = column.dialect
    return dialect.driver == "asyncpg" and column.type.bind_processor(dialect) is None


def bits_encoder(column: CopyColumn, bit: Any) -> Encode | None:
    """Return the function that writes the bits of a column that has this type in the model."""
    length = bit.length if bit.varying else bit.length or 1
    kind = "bit varying" if bit.varying else "bit"
    if column.stored_as != (kind if length is None else f"{kind}({length})"):
        return None

    def encode(values: Sequence[Any]) -> Sequence[Any]:
        for value in values:
            if value is None:
                continue
            if type(value) is not str or not _DIGITS.issuperset(value):
                raise ValueError("a value that is no text of ones and zeros")
            bits = len(value)
            if length is not None and (bits > length or (bits < length and not bit.varying)):
                raise ValueError(f"a text of {bits} bits for {length}")
        return values

    return encode
