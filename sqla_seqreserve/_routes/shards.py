"""What rows of a distributed table cost beside what they cost elsewhere: on Citus each is in one of
many shards, most of them on other nodes.

Measured on Citus 13.2 with a coordinator and two workers on one machine, 32 shards a table, which
is what Citus makes. Farther nodes cost each way more.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COPY_ROUND_TRIPS", "by_copy", "by_insert", "numbered"]

COPY_ROUND_TRIPS: Final = 4
"""Round trips around a COPY: a savepoint, and going through the shards in turn (``_writers``)."""

_SHARDS: Final = 32
_MESSAGE: Final = 350.0
"""Microseconds of a row that is sent to its shard by itself."""

_SHARD: Final = 450.0
"""Microseconds of a shard that rows are sent to together."""


def by_insert(rows: int) -> float:
    """Microseconds by INSERTs whose keys are known: a message a row."""
    return rows * _MESSAGE


def numbered(rows: int) -> float:
    """Microseconds by an INSERT that brings the keys back: of one row to its shard, of several to
    many shards at once, for which Citus opens connections.
    """
    return _MESSAGE if rows == 1 else min(rows * 2 * _MESSAGE, 28_000.0 + rows * 100.0)


def by_copy(rows: int) -> float:
    """Microseconds by COPY, which goes from shard to shard."""
    return min(rows, _SHARDS) * _SHARD + rows * 15.0
