"""Finds why rows cannot go by COPY, or must be numbered by the database, as far as that is certain
before they are divided. No value is changed, and no I/O happens here.

:func:`foreseen_reason` says what the model alone shows about a class, for ``explain()``;
:func:`refusal_of` says what the types of the rows' values show before a key is reserved for them.

If the database numbers several rows, SQLAlchemy sends them in one ``VALUES`` and casts its columns
to the model's types: how a value is read then depends on the others. An INSERT with known keys
assigns each value to its column (:func:`cast_reason`). Both give the same result if each value is
cast separately, or if all have the type that the column is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, Final

from sqlalchemy import Column
from sqlalchemy.types import TypeDecorator, TypeEngine

from .. import _reasons as why
from .._ids.keys import KeySequence, may_be_generated
from .._reasons import Reason
from .._sqlalchemy.mapping import kept_with
from .codecs import Codec
from .division import is_plain, is_sql, values_of
from .encoded import made_exact
from .plan import Absent, ColumnPlan, InsertPlan
from .table import Missing

_SAMPLE: Final = 64
"""Up to this number every row is examined before keys are reserved; of more rows, at least this
number. To examine all would take a tenth of the time of a large flush.
"""


def foreseen_reason(plan: InsertPlan, source: KeySequence) -> Reason | None:
    """Say why COPY would not write a row of the plan's class; ``None``: it would.

    :param source: the sequence that numbers the class, or why none does.
    """
    if plan.reason is not None:
        return plan.reason
    for column in plan.columns:
        reason = _reason_of(column, plan, source)
        if reason is not None:
            return reason
    return None


def _reason_of(plan: ColumnPlan, whole: InsertPlan, source: KeySequence) -> Reason | None:
    column: Column[object] = plan.column
    if plan.absent is Absent.OMITTED:
        return None
    if plan.absent is Absent.ELSEWHERE:
        if not column.primary_key:
            return why.sql_default(plan.attribute or column.name)
        if (
            source.reason is not None
            and column in whole.mapper.primary_key
            and may_be_generated(column)
        ):
            return why.not_reserved(source.reason)
    return plan.reason if plan.codec is None else None


def refusal_of(
    plan: InsertPlan,
    count: int,
    rows_at: Callable[[slice], Sequence[Mapping[str, Any]]],
) -> Reason | None:
    """Say why none of these rows, attribute key -> value, can go by COPY, as far as the types of
    their values show; ``None``: some may, or it is not known yet. No value is changed, and no
    processor is called, unless that has no side effects.

    Of many rows a sample is examined. All rows are examined if the sample shows something, or if
    rows of the class were refused after their keys were reserved (:func:`note_refusal`).

    :param rows_at: returns some of the rows.
    """
    step = max(count // _SAMPLE, 1)
    looks_at_all = plan.context_default is not None or _was_refused(plan)
    if step > 1 and not looks_at_all and _refusal(plan, rows_at(slice(0, count, step))) is None:
        return None
    reason = _refusal(plan, rows_at(slice(0, count)))
    if reason is not None and step > 1:
        # Another sample may miss what this one has shown.
        note_refusal(plan)
    return reason


def note_refusal(plan: InsertPlan) -> None:
    """From now on, let all rows of the class be examined."""
    kept_with(plan.mapper)[refusal_of] = True


def _refusal(plan: InsertPlan, rows: Sequence[Mapping[str, Any]]) -> Reason | None:
    is_mixed = gives_some = False
    several: Reason | None = None
    for column in plan.columns:
        attribute, codec = column.attribute, column.codec
        if attribute is None or column.is_version:
            continue
        nothing = column.nothing
        looks = plan.context_default is not None and column.absent is not Absent.NULL
        if codec is None and column.absent is not Absent.OMITTED:
            return column.reason
        may_omit = column.absent is Absent.OMITTED
        is_opaque = column.is_made_ready and not _may_be_asked(column)
        if not (looks or may_omit) and codec is not None and is_opaque:
            continue
        types = set(map(type, values_of(rows, attribute, nothing)))
        some_lack = type(nothing) in types
        if types and all(map(is_sql, types)):
            return why.sql_expression(attribute)
        if (
            column.absent is Absent.ELSEWHERE
            and not column.column.primary_key
            and types == {type(nothing)}
        ):
            return why.sql_default(attribute)
        gives_some = gives_some or (may_omit and some_lack and len(types) > 1)
        is_mixed = is_mixed or any(map(is_sql, types)) or (looks and some_lack and len(types) > 1)
        if codec is None:
            if not some_lack:
                return column.reason
        elif column.is_made_ready:
            if not is_opaque:
                several = several or _value_reason(column, rows)
        elif unknown := _unknown(codec, types):
            names = ", ".join(sorted(type_.__name__ for type_ in unknown))
            several = why.unknown_types(column.column.name, names, repr(column.column.type))
            # If each value is cast separately, rows without such a value may still go by COPY.
            if not codec.casts_each or unknown == types:
                return several
        elif not codec.mixes({type_ for type_ in types if not is_sql(type_)} - {Missing}):
            several = why.several_types(column.column.name)
        else:
            several = several or _value_reason(column, rows)
    if is_mixed and plan.context_default is not None:
        return why.context_default(plan.context_default)
    # Rows that omit other columns go by a COPY of their own, and may hold other types.
    return several if not gives_some or _was_refused(plan) else None


def _was_refused(plan: InsertPlan) -> bool:
    return refusal_of in kept_with(plan.mapper)


def _unknown(codec: Codec, types: set[type]) -> set[type]:
    """Return the types of a column's values that COPY cannot write."""
    exact = {type_ for type_ in types if not is_sql(type_)} - {NoneType, Missing}
    return {type_ for type_ in exact - codec.binary - codec.text if codec.converter(type_) is None}


def _may_be_asked(column: ColumnPlan) -> bool:
    """Whether a column's conversion may be called before a key is reserved, and again when the rows
    are prepared: true for processors of SQLAlchemy's own types, and for a CopyCodec that writes
    text. Their calls have no visible effect, and cost little.
    """
    codec, encoding = column.codec, column.encoding
    if codec is None:
        return False
    if encoding is not None:
        return encoding.binary is None and encoding.text is not None and not _takes(codec)
    return (codec.check is not None or not _takes(codec)) and is_own(column.column.type)


def _value_reason(column: ColumnPlan, rows: Sequence[Mapping[str, Any]]) -> Reason | None:
    """Say why COPY cannot write a column of these rows; ``None``: it can, or that is found out
    later.

    :param column: one that does not convert its values, or whose conversion may be called twice.
    """
    codec = column.codec
    assert codec is not None
    assert column.attribute is not None
    values = [
        v for v in values_of(rows, column.attribute) if v is not None and v is not Missing.MISSING
    ]
    if not values or any(map(is_sql, set(map(type, values)))):
        return None
    if column.encoding is not None:
        assert column.encoding.text is not None
        try:
            column.encoding.text(values)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            return why.refused_by_codec(column.column.name, problem)
        return None
    if column.processor is not None:
        try:
            values = [column.processor(value) for value in values]
        except Exception as error:
            return why.not_processed(column.column.name, type(error).__name__)
    outcome = made_exact(codec, column.column, values, {*map(type, values), NoneType})
    if isinstance(outcome, Reason):
        return outcome
    exact, found = outcome
    # Whether a time can be converted to UTC depends on the connection.
    if codec.as_utc or codec.accepts(exact, found) or codec.accepts_as_text(exact, found):
        return None
    return why.cast_or_refused(column.column.name)


def _takes(codec: Codec) -> bool:
    """Whether any values go by COPY without a CopyCodec."""
    return bool(codec.binary or codec.text)


def is_own(type_: TypeEngine[Any]) -> bool:
    """Whether the processor of a type is SQLAlchemy's own, so that a second call has no visible
    effect, and ``None`` stays what it is.
    """
    inner = getattr(type_, "item_type", None)
    own = type(type_).__module__.startswith("sqlalchemy.") and not isinstance(type_, TypeDecorator)
    return own and (inner is None or is_own(inner))


def cast_reason(plan: InsertPlan, rows: Sequence[Mapping[str, Any]]) -> Reason | None:
    """Say why the database must number the rows, attribute key -> value; ``None``: an INSERT with
    known keys writes the same.
    """
    # An INSERT of one row has only one form.
    if len(rows) < 2:
        return None
    for column in plan.columns:
        if column.casts:
            return column.reason
        if column.codec is None or column.codec.casts_each or column.attribute is None:
            continue
        values = [value for value in values_of(rows, column.attribute) if is_plain(value)]
        if not _is_the_same(column, values):
            return why.may_be_cast(column.attribute)
    return None


def _is_the_same(column: ColumnPlan, values: Sequence[Any]) -> bool:
    codec = column.codec
    assert codec is not None
    if column.default is not None and not codec.is_own and None in values:
        return False
    if not column.is_made_ready:
        return codec.takes(values)
    # A processor's results must not be computed twice.
    return codec.is_own and (column.is_uniform or len(set(map(type, values)) - {type(None)}) < 2)
