"""Autogenerate between every two of many sets of a sequence's options: types, directions, starts
and bounds, given and left open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import sqlalchemy as sa

from sqla_seqreserve.alembic_plugin._options import SequenceOptions

from .conftest import Migrator

TYPES = {
    sa.SmallInteger: (-(2**15), 2**15 - 1),
    sa.Integer: (-(2**31), 2**31 - 1),
}


def option_sets() -> Iterator[dict[str, Any]]:
    """Options that PostgreSQL accepts; some state the limits of a type."""
    for data_type, increment in product(TYPES, (1, -1)):
        lowest, highest = TYPES[data_type]
        lows = (None, -100, lowest) if increment > 0 else (None, -100, 2 - 2**15)
        highs = (None, 100, highest) if increment < 0 else (None, 100, 2**15 - 1)
        for low, high in product(lows, highs):
            given = {"minvalue": low, "maxvalue": high, "start": None}
            yield _without_none(data_type=data_type, increment=increment, **given)
        start = 7 if increment > 0 else -7
        yield {"data_type": data_type, "increment": increment, "start": start}


def _without_none(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def filled(options: dict[str, Any]) -> SequenceOptions:
    return SequenceOptions.declared_by(sa.Sequence("s", **options)).filled()


def fits(before: SequenceOptions, after: SequenceOptions) -> bool:
    """Whether the position of an unused sequence can be moved forward into the other bounds, and
    still lies within the first ones then.
    """
    if before.descending != after.descending:
        return True
    if before.descending:
        return max(after.minvalue, before.minvalue) <= min(before.start, after.maxvalue)
    return max(before.start, after.minvalue) <= min(after.maxvalue, before.maxvalue)


PAIRS = [
    (before, after)
    for before, after in product(option_sets(), repeat=2)
    if fits(filled(before), filled(after))
]


def metadata_of(sets: list[dict[str, Any]]) -> sa.MetaData:
    metadata = sa.MetaData()
    for number, options in enumerate(sets):
        sa.Sequence(f"s{number}", metadata=metadata, **options)
    return metadata


def test_every_change_of_options_goes_there_and_back(
    connection: sa.Connection,
    migrator: Callable[..., Migrator],
    take_picture: Callable[[sa.Connection], Any],
) -> None:
    """Between any two sets of a sequence's options an upgrade leaves no difference, and a downgrade
    restores the catalogue.
    """
    migrations = migrator()
    before = metadata_of([pair[0] for pair in PAIRS])
    after = metadata_of([pair[1] for pair in PAIRS])
    before.create_all(connection)
    assert migrations.diffs(before) == []
    old = take_picture(connection)
    up, down = migrations.generate(after)
    migrations.run(up)
    assert migrations.diffs(after) == []
    migrations.run(down)
    assert take_picture(connection) == old
