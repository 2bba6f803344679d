"""Rows held by column: the values of each attribute, without a dictionary for each row."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, overload


class Missing(enum.Enum):
    """A marker for "no value" where ``None`` is a value (JSON)."""

    MISSING = 0


class ColumnRows(Sequence[Mapping[str, Any]]):
    """Rows as mappings of attribute key to value, made on access. A row has no key for a value that
    is marked as missing.

    :param columns: attribute key -> one value per row.
    """

    __slots__ = ("_length", "columns")

    def __init__(self, columns: Mapping[str, Sequence[Any]], length: int) -> None:
        self.columns = columns
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> ColumnRows: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | ColumnRows:
        if isinstance(index, slice):
            length = len(range(*index.indices(self._length)))
            return ColumnRows({key: found[index] for key, found in self.columns.items()}, length)
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return {
            key: value
            for key, found in self.columns.items()
            if (value := found[index]) is not Missing.MISSING
        }

    def values(self, attribute: str, nothing: object) -> list[Any]:
        """Return the values of one attribute; ``nothing`` for each row if there is no such
        column.
        """
        found = self.columns.get(attribute)
        return [nothing] * self._length if found is None else list(found)
