"""What rows of a distributed table cost beside what they cost elsewhere: on Citus each is in one of
many shards, most of them on other nodes.

Measured on Citus 13.2 with a coordinator and two workers on one machine, 32 shards a table, which
is what Citus makes. Farther nodes cost each way more. Where one statement changes several shards,
Citus opens a connection a shard, in every transaction anew, which is what it takes most time for.
"""

from __future__ import annotations

from typing import Final

COPY_ROUND_TRIPS: Final = 4
"""Round trips around a COPY: a savepoint, and going through the shards in turn (``_writers``)."""

_SHARDS: Final = 32
_CONNECTION: Final = 9_000.0
"""Microseconds of a shard of several that one INSERT changes at once."""

_FIRST_MESSAGE: Final = 900.0
"""Microseconds of the first row that is sent to a shard by itself."""

_MESSAGE: Final = 150.0
"""Microseconds of each row that is sent to its shard by itself."""

_COPY: Final = 30_000.0
"""Microseconds of a COPY, however few its rows."""

_COPY_SHARD: Final = 250.0
"""Microseconds of a shard that COPY comes to."""


def by_insert(rows: int) -> float:
    """Microseconds by INSERTs whose keys are known: a message a row."""
    return min(rows, _SHARDS) * _FIRST_MESSAGE + rows * _MESSAGE


def numbered(rows: int) -> float:
    """Microseconds by an INSERT that brings the keys back: of one row to its shard, of several to
    many shards at once, for which Citus opens connections.
    """
    return by_insert(1) if rows == 1 else min(rows, _SHARDS) * _CONNECTION + rows * 50.0


def by_copy(rows: int) -> float:
    """Microseconds by COPY, which goes from shard to shard."""
    return _COPY + min(rows, _SHARDS) * _COPY_SHARD + rows * 12.0
