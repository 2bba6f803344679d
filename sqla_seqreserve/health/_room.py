"""Findings about the ids that a sequence has left, and how it gets more (no I/O)."""

from __future__ import annotations

from ._facts import ColumnFacts, SequenceFacts, type_bounds
from ._names import literal
from ._servers import out_of_window
from .report import Finding

ALERT_USED = 0.8
"""The share used from which a sequence is near its end, unless another is given."""


def exhausted(sequence: SequenceFacts, column: ColumnFacts | None) -> list[Finding]:
    """Return the finding that no value is left, or none that the column can hold."""
    if sequence.last_value is None or sequence.hands_out_nothing:
        return []
    low, high = type_bounds(column.type_name if column else None)
    value = sequence.next_value
    remedy, sql = widening(sequence, column), widening_sql(sequence, column)
    if (beyond := out_of_window(sequence)) is not None:
        (limit, remedy), sql = beyond, None
    elif value is None:
        limit = f"it has reached its end, {sequence.last_value}"
    elif not low <= value <= high and column:
        limit = f"its next value {value} does not fit {column.name}, of type {column.type_name}"
    else:
        return []
    return [
        Finding(
            "EXHAUSTED",
            "HIGH",
            f"{sequence.label} has no value left: {limit}",
            remedy,
            sql,
        )
    ]


def room(sequence: SequenceFacts, column: ColumnFacts | None, *, already: bool) -> list[Finding]:
    """Return the finding that few values are left, unless none is (``already``)."""
    used = None if sequence.hands_out_nothing else sequence.used_fraction(column)
    if used is None or already or sequence.cycle:
        return []
    if used < ALERT_USED:
        return []
    left = sequence.ids_left(column) or 0
    more_ids, sql = widening(sequence, column), widening_sql(sequence, column)
    return [near_exhaustion(sequence.label, used, left, more_ids, sql)]


def near_exhaustion(
    label: str, used: float, left: int, more_ids: str, sql: str | None, rate: str = ""
) -> Finding:
    """Return the finding that a sequence is near its end; ``rate`` says when it is reached."""
    return Finding(
        "NEAR_EXHAUSTION",
        "HIGH",
        f"{label} has used {percent(used)} of its ids, {left:,} "
        f"{'is' if left == 1 else 'are'} left{rate}",
        more_ids,
        sql,
    )


def percent(share: float) -> str:
    """Return the share as text, with 100% only for the whole."""
    return f"{share:.1%}" if share == 1 else f"{min(share, 0.999):.1%}"


def widening(sequence: SequenceFacts, column: ColumnFacts | None) -> str:
    """Say how the sequence gets more values: by its type, its bound or the column's type, whichever
    ends first.
    """
    sql = widening_sql(sequence, column)
    if sql is None and sequence.node is None:
        return (
            "no integer type is wider: delete or renumber the outlying ids, and set the sequence "
            f"back beyond the others, SELECT setval({literal(sequence.label)}, ...), while nothing "
            "inserts"
        )
    if sql is not None and not sql.startswith("ALTER TABLE"):
        return sql
    if sql is not None and "ALTER SEQUENCE" not in sql:
        return f"widen the column to bigint in a migration: {sequence.label} goes further"
    return "widen both to bigint in a migration"


def widening_sql(sequence: SequenceFacts, column: ColumnFacts | None) -> str | None:
    """Return the statements that give the sequence more values, ``None`` if there are none."""
    upwards = sequence.increment > 0

    def end_of(bounds: tuple[int, int]) -> int:
        # Counted in the sequence's direction, so that a larger one is further.
        return bounds[1] if upwards else -bounds[0]

    name = column.type_name if column and column.type_name != "numeric" else "bigint"
    end = end_of((sequence.minimum, sequence.maximum))
    own_type, column_type = end_of(type_bounds(sequence.data_type)), end_of(type_bounds(name))
    if sequence.node is not None:
        return None
    if column is not None and end >= column_type and name != "bigint":
        alter = f"ALTER TABLE {column.label} ALTER {column.name} TYPE bigint"
        if end > column_type:
            return alter
        bound = f" {'NO MAXVALUE' if upwards else 'NO MINVALUE'}" if end < own_type else ""
        return f"{alter}; ALTER SEQUENCE {sequence.label} AS bigint{bound}"
    changes = [f"AS {name}"] if column_type > own_type else []
    if end < own_type:
        changes.append("NO MAXVALUE" if upwards else "NO MINVALUE")
    if not changes:
        return None
    return f"ALTER SEQUENCE {sequence.label} {' '.join(changes)}"
