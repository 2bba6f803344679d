"""Raises one short error if the database is read-only, in place of the driver's error with its
SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .._drivers import driver_of
from .._sqlstate import sqlstate
from ..errors import ReadOnlyError

_READ_ONLY_TRANSACTION: Final = "25006"


@contextmanager
def read_only_told(
    connection: Connection, what: str, classes: Iterable[str] = (), needs: str = "to write"
) -> Iterator[None]:
    """Turn the refusal of a read-only database into an error that says so.

    :param what: what needs to write, as the error says it.
    :param needs: what it needs, if the caller does not expect it to write.
    :raises ReadOnlyError: the server is a standby, or the transaction READ ONLY.
    """
    try:
        yield
    except DBAPIError as error:
        if sqlstate(error) != _READ_ONLY_TRANSACTION:
            raise
        url = connection.engine.url
        place = f"{url.host or 'the local server'}{f':{url.port}' if url.port else ''}"
        driver = driver_of(connection.dialect)
        if driver and driver.setting(connection.connection, "in_hot_standby") == "on":
            found = "a standby"
        else:
            found = "a standby, or its transaction is READ ONLY"
        named = ", ".join(classes)
        raise ReadOnlyError(
            f"{what}{f' for {named}' if named else ''} needs {needs}, and the database "
            f"{url.database} on {place} is {found}. Use a session that is bound to the primary; "
            "where get_bind() routes reads to a replica, it must return the primary for an Insert "
            "as its clause, which stands for every write of this package"
        ) from error
