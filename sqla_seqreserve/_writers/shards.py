"""COPY into a table that Citus distributes over the shards of several nodes.

Two things differ from a table of one server. A COPY that writes to several shards at once forbids
the rest of the transaction to change a reference table that the distributed one refers to, where
SQLAlchemy's INSERTs forbid nothing; in ``sequential`` mode it goes from shard to shard, and costs
fewer connections too. And what another node refuses arrives as SQLSTATE XX000, without the class of
the error, the constraint or the row. A savepoint undoes such a COPY, and whoever asked for it sends
the same rows as INSERT: what is wrong with them is then said as SQLAlchemy's users know it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from .._audit import sqlstate
from .._database import database_of

_OF_ROWS: Final = ("XX000", "22", "23")
"""How SQLSTATEs begin that are about the rows: of shards on other nodes the first, of those on this
one as on any server.
"""

# Of the transaction, so that they go with the savepoint, too. What the user has set is kept beside.
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
    """A COPY failed that an INSERT of the same rows tells more of; nothing of it is written."""


@contextmanager
def shard_by_shard(connection: Connection, *, distributed: bool) -> Iterator[None]:
    """COPY, and what is read back, with the shards in turn.

    :param distributed: whether Citus distributes a table of it; if not, nothing is done.
    :raises RefusedByCitusError: the rows are to be sent as INSERT.
    """
    if not distributed:
        yield
        return
    savepoint = connection.begin_nested()
    try:
        started = time.perf_counter()
        connection.execute(_SEQUENTIAL)
        # Of all that is sent here, the one statement that no other node hears of.
        database_of(connection.dialect).distance.note(time.perf_counter() - started)
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
