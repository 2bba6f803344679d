"""Combines columns that a CopyCodec encodes for COPY with columns that are sent by their Python
types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from sqlalchemy import Column, Connection, Dialect

from .. import _reasons as why
from .._reasons import Reason
from ..copy_codecs._codec import Encoding
from .batches import Batch
from .codecs import BYTES, Codec, ValueTable, value_table
from .plan import Absent, ColumnPlan


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column's values, encoded by a CopyCodec in text or binary format."""

    values: Sequence[Any]
    is_text: bool


@dataclass(slots=True, eq=False)
class ReadyMade:
    """The columns that CopyCodecs have encoded, by their index; and why they refused others.

    :param prefers_text: whether a column of these rows never goes in binary format.
    """

    prefers_text: bool
    encoded: dict[int, Encoded] = field(default_factory=dict)
    refused: dict[int, Reason] = field(default_factory=dict)

    @classmethod
    def of(cls, plans: Iterable[ColumnPlan], dialect: Dialect) -> ReadyMade:
        """Return an instance for these columns, without encoded values yet."""
        table = value_table(dialect)
        return cls(table is None or any(_needs_text(plan, table) for plan in plans))

    def make(self, index: int, plan: ColumnPlan, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values that SQLAlchemy would pass to the driver; or, if the column's codec has
        encoded them for COPY, the values unchanged.
        """
        if plan.absent is Absent.NULL and plan.evaluates_none:
            lacking = [value is plan.nothing for value in values]
            if any(lacking):
                return self._make_around(index, plan, values, lacking)
        if plan.encoding is not None:
            outcome = _encoded(plan, plan.encoding, values, prefers_text=self.prefers_text)
            if isinstance(outcome, Encoded):
                self.encoded[index] = outcome
                return values
            self.refused[index] = outcome
        processor = plan.processor
        return values if processor is None else [processor(value) for value in values]

    def _make_around(
        self, index: int, plan: ColumnPlan, values: Sequence[Any], lacking: Sequence[bool]
    ) -> Sequence[Any]:
        """Make the values that are not missing; for the others NULL is written.

        :param lacking: which values are missing.
        """
        given = [value for value, lacks in zip(values, lacking, strict=True) if not lacks]
        made = _around(self.make(index, plan, given), lacking)
        if index in self.encoded:
            encoded = self.encoded[index]
            self.encoded[index] = Encoded(_around(encoded.values, lacking), encoded.is_text)
        return made

    def in_one_format(self, batch: Batch, connection: Connection) -> Reason | None:
        """Bring all columns into the format that one of them needs; or say why that is
        impossible.
        """
        table = value_table(connection.dialect)
        assert table is not None
        in_binary = not any(each.is_text for each in self.encoded.values())
        if in_binary and self.encoded and not batch.binary:
            columns = enumerate(zip(batch.plans, batch.copy_values, strict=True))
            batch.binary = all(
                index in self.encoded or _frames(table, plan, values)
                for index, (plan, values) in columns
            )
        batch.binary = batch.binary and in_binary
        if batch.binary and self.encoded:
            batch.binary = table.sends_bytes(connection)
        for index, each in self.encoded.items():
            if batch.binary:
                # The driver sends bytes unchanged for a column of type bytea.
                batch.oids[index] = BYTES
            elif not each.is_text:
                again = _as_text(batch.plans[index], batch.values[index])
                if not isinstance(again, Encoded):
                    return again
                batch.copy_values[index] = again.values
        if batch.binary:
            return None
        for index, (plan, values) in enumerate(zip(batch.plans, batch.copy_values, strict=True)):
            assert plan.codec is not None
            if index not in self.encoded and not table.writes_as_text(plan.codec, values):
                return why.not_as_text(plan.column.name)
        return None


def _around(values: Sequence[Any], lacking: Sequence[bool]) -> list[Any]:
    """Return the values, with ``None`` at the places that lack one."""
    found = iter(values)
    return [None if lacks else next(found) for lacks in lacking]


def _as_text(plan: ColumnPlan, values: Sequence[Any]) -> Encoded | Reason:
    assert plan.encoding is not None
    if plan.encoding.text is None:
        return why.refused_by_codec(plan.column.name, "it has no text format")
    return _encoded(plan, plan.encoding, values, prefers_text=True)


def _frames(table: ValueTable, plan: ColumnPlan, values: Sequence[Any]) -> bool:
    return plan.codec is not None and table.frames(plan.codec, values)


def _needs_text(plan: ColumnPlan, table: ValueTable) -> bool:
    if plan.encoding is not None:
        return plan.encoding.binary is None
    return plan.codec is not None and not plan.codec.binary and not _frames(table, plan, ())


def _encoded(
    plan: ColumnPlan, encoding: Encoding, values: Sequence[Any], *, prefers_text: bool
) -> Encoded | Reason:
    is_text = encoding.binary is None or (prefers_text and encoding.text is not None)
    encode = encoding.text if is_text else encoding.binary
    assert encode is not None
    try:
        found = encode(values)
    except Exception as error:
        return why.refused_by_codec(plan.column.name, f"{type(error).__name__}: {error}")
    kind = str if is_text else bytes
    if len(found) != len(values) or not set(map(type, found)) <= {kind, NoneType}:
        what = f"it must return {kind.__name__} or None for each of {len(values)} values"
        return why.refused_by_codec(plan.column.name, what)
    return Encoded(found, is_text)


def made_exact(
    codec: Codec, column: Column[Any], values: Sequence[Any], found: set[type]
) -> tuple[Sequence[Any], set[type]] | Reason:
    """Convert the values to types that the column accepts, and return these types too; or say why
    that is impossible.
    """
    exact = found - {NoneType}
    if len(exact) > 1 and not codec.mixes(exact):
        return why.several_types(column.name)
    further = exact - codec.binary
    converters = {type_: made for type_ in further if (made := codec.converter(type_)) is not None}
    if converters:
        values = [converters[type(v)](v) if type(v) in converters else v for v in values]
        found = set(map(type, values))
    exact = found - {NoneType}
    if not (exact <= codec.binary or exact <= codec.text):
        names = ", ".join(sorted(type_.__name__ for type_ in exact - codec.binary))
        return why.unknown_types(column.name, names, repr(column.type))
    return values, found
