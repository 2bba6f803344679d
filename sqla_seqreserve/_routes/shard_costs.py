"""The additional cost of rows of a distributed table: on Citus each row is in one of many shards,
most of them on other nodes.

Measured on Citus 13.2 with a coordinator and two workers on one machine and 32 shards for each
table, which is Citus's default. With more distant nodes each way costs more. If one statement
changes several shards, Citus opens a connection for each shard, anew in every transaction, and this
takes most of the time.
"""

from __future__ import annotations

from typing import Final

COPY_ROUND_TRIPS: Final = 4
"""Round trips around a COPY: for a savepoint and for ``sequential`` mode (``_writers.shards``)."""

_SHARDS: Final = 32
_CONNECTION: Final = 9_000.0
"""Microseconds for each shard if one INSERT changes several shards at once."""

_FIRST_MESSAGE: Final = 900.0
"""Microseconds for the first row that is sent to a shard by itself."""

_MESSAGE: Final = 150.0
"""Microseconds for each row that is sent to its shard by itself."""

_COPY: Final = 30_000.0
"""Microseconds for a COPY, however few its rows."""

_COPY_SHARD: Final = 250.0
"""Microseconds for each shard that COPY writes."""


def by_insert(rows: int) -> float:
    """Microseconds with INSERTs whose keys are known: one message for each row."""
    return min(rows, _SHARDS) * _FIRST_MESSAGE + rows * _MESSAGE


def numbered(rows: int) -> float:
    """Microseconds with an INSERT that returns the keys. One row goes to its shard; several rows go
    to many shards at once, for which Citus opens connections.
    """
    return by_insert(1) if rows == 1 else min(rows, _SHARDS) * _CONNECTION + rows * 50.0


def by_copy(rows: int) -> float:
    """Microseconds with COPY, which writes one shard after the other."""
    return _COPY + min(rows, _SHARDS) * _COPY_SHARD + rows * 12.0
