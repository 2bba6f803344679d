"""Finds ids far ahead of all others, beyond which a sequence would have almost nothing left to hand
out.

A known incident: ids up to the type's end were used, old rows were deleted and the sequence was set
back by hand; the application continues far below the few rows that are left at the end. Moving the
sequence beyond these would spend all that it has. So the number of ids that a move would pass over
is compared with the number that it would leave. Only if it leaves fewer, the ids are searched for a
stretch without any that is longer than what would be left. A table that is full up to its largest
id has no such stretch, and is repaired.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    column,
    func,
    select,
    table,
)

from ._facts import ColumnFacts, SequenceFacts, type_bounds
from ._names import literal
from ._room import widening, widening_sql
from .report import OutlyingIds


def find_outliers(
    connection: Connection, sequence: SequenceFacts, edge: int | None, headroom: int
) -> OutlyingIds | None:
    """Return the ids up to ``edge`` that a repair must not pass, if it would leave fewer than it
    passes over.

    It finds a group of ids that spans no more than the empty stretch before it. It looks for that
    stretch at the distances 1/1, 1/2, 1/4 ... of the way, so each step is two reads of an index.
    """
    gap = sequence.gap_to(edge)
    left = max(0, sequence.room_beyond(edge) - headroom)
    if not gap or edge is None or sequence.next_value is None or left >= gap + headroom:
        return None
    step = abs(sequence.increment)
    upwards = 1 if sequence.increment > 0 else -1
    start = sequence.next_value - upwards
    distance = abs(edge - start)
    cuts = []
    while distance > left * step:
        cuts.append(edge - upwards * distance)
        distance //= 2
    best: OutlyingIds | None = None
    longest = left
    for before, after in _around(connection, sequence, cuts, start, edge):
        if after is None:
            continue
        stretch = abs(after - (start if before is None else before)) // step
        if stretch > longest:
            longest = stretch
            free = abs(after - start - upwards) // step if before is None else 0
            best = OutlyingIds(first=after, last=edge, left=left, before=before, free=free)
    return best


def _around(
    connection: Connection, sequence: SequenceFacts, cuts: list[int], start: int, edge: int
) -> list[tuple[int | None, int | None]]:
    """Return for each cut the nearest ids, over all tables: from ``start`` up to the cut, and from
    the cut up to ``edge``, in the sequence's direction.
    """
    found: dict[int, tuple[int | None, int | None]] = dict.fromkeys(cuts, (None, None))
    upwards = sequence.increment > 0
    for place in sequence.columns:
        if not place.has_ids:
            continue
        for cut, before, after in connection.execute(
            _looks(place, upwards=upwards),
            {"cuts": cuts, "start": start, "edge": edge},
            execution_options={"schema_translate_map": None},
        ):
            befores = [int(v) for v in (before, found[cut][0]) if v is not None]
            afters = [int(v) for v in (after, found[cut][1]) if v is not None]
            nearest, next_one = (max, min) if upwards else (min, max)
            found[cut] = (
                nearest(befores) if befores else None,
                next_one(afters) if afters else None,
            )
    return list(found.values())


def _looks(place: ColumnFacts, *, upwards: bool) -> Select[Any]:
    ids = table(place.table, column(place.column), schema=place.schema).c[place.column]
    cuts = bindparam("cuts", type_=ARRAY(BigInteger))
    cut = func.unnest(cuts).table_valued(column("cut", BigInteger), name="looks").render_derived()
    start = bindparam("start", type_=BigInteger)
    edge = bindparam("edge", type_=BigInteger)

    def one(function: Any, *where: ColumnElement[bool]) -> Any:
        return select(function(ids)).where(*where).correlate(cut).scalar_subquery()

    if upwards:
        before = one(func.max, ids <= cut.c.cut, ids > start)
        after = one(func.min, ids > cut.c.cut, ids <= edge)
    else:
        before = one(func.min, ids >= cut.c.cut, ids < start)
        after = one(func.max, ids < cut.c.cut, ids >= edge)
    return select(cut.c.cut, before, after).select_from(cut)


def reason_of(sequence: SequenceFacts, found: OutlyingIds) -> str:
    """Say why the sequence was not moved, and the remedy."""
    low, high = sorted((found.first, found.last))
    one = low == high
    ids = f"id {low}" if one else f"ids {low} to {high}"
    where = ", ".join(c.place for c in sequence.columns if c.edge == sequence.edge)
    beyond = ""
    if found.before is not None:
        beyond = (
            f"; SELECT setval({literal(sequence.label)}, {found.before}) takes it beyond all the "
            "others"
        )
    if not found.left:
        return f"{nothing_beyond(sequence)}, or delete or renumber {ids} of {where}{beyond}"
    return (
        f"{sequence.label} hands out {sequence.next_value} next, and a repair would leave it "
        f"{found.left} value{'' if found.left == 1 else 's'}: {ids} of {where} "
        f"{'stands' if one else 'stand'} far ahead of the others. Delete or renumber "
        f"{'it' if one else 'them'}, or repair with allow_exhaustion=True "
        f"(--allow-exhaustion){beyond}"
    )


def nothing_beyond(sequence: SequenceFacts) -> str:
    """Say that the furthest id is the sequence's last, and what gives it more values."""
    return (
        f"beyond {sequence.edge} there is no value that {sequence.label} may hand out and its "
        f"column can hold: {widening(sequence, _narrowest(sequence))}"
    )


def beyond_headroom(sequence: SequenceFacts, headroom: int, room: int) -> str:
    """Say that the headroom leaves the sequence no value, and what to do."""
    said = (
        f"beyond {sequence.edge} {sequence.label} has {room} value{'' if room == 1 else 's'} that "
        f"its column can hold, and a headroom of {headroom} leaves none: repair with less headroom"
    )
    narrowest = _narrowest(sequence)
    if widening_sql(sequence, narrowest) is None:
        return said
    return f"{said}, or make room: {widening(sequence, narrowest)}"


def _narrowest(sequence: SequenceFacts) -> ColumnFacts | None:
    return min(sequence.columns, key=lambda c: type_bounds(c.type_name)[1], default=None)
