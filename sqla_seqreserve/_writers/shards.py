"""COPY into a table that Citus distributes over the shards of several nodes.

Two things differ from a table of one server. After a COPY that writes to several shards at once,
the transaction can no longer change a reference table that the distributed table refers to;
SQLAlchemy's INSERTs have no such effect. In ``sequential`` mode the COPY writes one shard after the
other, and needs fewer connections too. And an error from another node arrives as SQLSTATE XX000,
without the class of the error, the constraint or the row. A savepoint undoes such a COPY, and the
caller sends the same rows as INSERT, which raises the error that users of SQLAlchemy know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from .._database import known_of
from .._routes import Distance
from .._sqlstate import sqlstate

_OF_ROWS: Final = ("XX000", "22", "23")
"""Beginnings of SQLSTATEs that are about the rows: the first for shards on other nodes, the others
for shards on this node, as on any server.
"""

# Local to the transaction, so that the savepoint also undoes them. The user's setting is kept
# beside.
_SEQUENTIAL: Final = text(
    "SELECT set_config('sqla_seqreserve.mode', "
    "current_setting('citus.multi_shard_modify_mode'), true), "
    "set_config('citus.multi_shard_modify_mode', 'sequential', true)"
)
_AS_BEFORE: Final = text(
    "SELECT set_config('citus.multi_shard_modify_mode', "
    "current_setting('sqla_seqreserve.mode'), true)"
)


class RefusedByCitusError(Exception):
    """A COPY failed, and wrote nothing. An INSERT of the same rows gives a better error."""


@contextmanager
def shard_by_shard(connection: Connection, *, distributed: bool) -> Iterator[None]:
    """Run a COPY, and the query that reads values back, on one shard after the other.

    :param distributed: whether Citus distributes the table; if not, nothing is done.
    :raises RefusedByCitusError: the rows must be sent as INSERT.
    """
    if not distributed:
        yield
        return
    savepoint = connection.begin_nested()
    try:
        started = time.perf_counter()
        connection.execute(_SEQUENTIAL)
        # Of all statements sent here, only this one goes to no other node, so it is timed.
        known_of(connection.dialect, Distance).note(time.perf_counter() - started)
        yield
        connection.execute(_AS_BEFORE)
    except DBAPIError as error:
        savepoint.rollback()
        if (sqlstate(error) or "").startswith(_OF_ROWS):
            raise RefusedByCitusError from error
        raise
    except BaseException:
        savepoint.rollback()
        raise
    savepoint.commit()
