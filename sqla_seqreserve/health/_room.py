"""Findings about what a sequence has left to hand out, and what gives it more (no I/O)."""

from __future__ import annotations

from ._facts import ColumnFacts, SequenceFacts, type_bounds
from ._servers import out_of_window
from .report import Finding, Severity

__all__ = ["exhausted", "room", "widening"]

_NEARLY_USED_UP: tuple[tuple[float, Severity], ...] = ((0.95, "HIGH"), (0.8, "MEDIUM"))


def exhausted(sequence: SequenceFacts, column: ColumnFacts | None) -> list[Finding]:
    """Return the finding that there is no value left, or none that the column can hold."""
    if sequence.last_value is None or sequence.hands_out_nothing:
        return []
    low, high = type_bounds(column.type_name if column else None)
    value = sequence.next_value
    remedy = widening(sequence, column)
    if (beyond := out_of_window(sequence)) is not None:
        limit, remedy = beyond
    elif value is None:
        limit = f"it has reached its end, {sequence.last_value}"
    elif not low <= value <= high and column:
        limit = f"its next value {value} does not fit {column.column}, of type {column.type_name}"
    else:
        return []
    return [
        Finding(
            "EXHAUSTED",
            "HIGH",
            f"{sequence.label} has no value left: {limit}",
            remedy,
        )
    ]


def room(sequence: SequenceFacts, column: ColumnFacts | None, *, already: bool) -> list[Finding]:
    """Return the finding that few values are left, unless none is (``already``)."""
    used = None if sequence.hands_out_nothing else sequence.used_fraction(column)
    if used is None or already or sequence.cycle:
        return []
    for share, severity in _NEARLY_USED_UP:
        if used >= share:
            return [
                Finding(
                    "NEAR_EXHAUSTION",
                    severity,
                    f"{sequence.label} has used {used:.1%} of the ids that it and "
                    f"{f'its {column.type_name} column' if column else 'its type'} can hold",
                    widening(sequence, column),
                )
            ]
    return []


def widening(sequence: SequenceFacts, column: ColumnFacts | None) -> str:
    """Say what gives the sequence more values: its type, its bound or the column's type, whichever
    ends first.
    """
    upwards = sequence.increment > 0

    def end_of(bounds: tuple[int, int]) -> int:
        # Counted in the sequence's direction, so that a larger one is further.
        return bounds[1] if upwards else -bounds[0]

    name = column.type_name if column and column.type_name != "numeric" else "bigint"
    end = end_of((sequence.minimum, sequence.maximum))
    own_type, column_type = end_of(type_bounds(sequence.data_type)), end_of(type_bounds(name))
    if sequence.node is not None or (end >= column_type and name != "bigint"):
        if end > column_type:
            return f"widen the column to bigint in a migration: {sequence.label} goes further"
        return "widen both to bigint in a migration"
    changes = [f"AS {name}"] if column_type > own_type else []
    if end < own_type:
        changes.append("NO MAXVALUE" if upwards else "NO MINVALUE")
    if not changes:
        return (
            "no integer type is wider: delete or renumber the outlying ids, and set the sequence "
            f"back beyond the others, SELECT setval('{sequence.label}', ...), while nothing inserts"
        )
    return f"ALTER SEQUENCE {sequence.label} {' '.join(changes)}"
