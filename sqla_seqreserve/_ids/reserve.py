"""Reserves ids: looks up the tables, and takes ids in one message that compares the facts found;
repeats this until the facts are true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._drivers import driver_of, reading_before_lock
from .._reasons import Reason
from .._sqlalchemy.engine import sees_the_present
from ..errors import SequenceNotFoundError
from .fetch import Wanted, take_ids
from .insert_order import in_insert_order
from .keys import KeySequence, require, resolve
from .reservation_statement import IdRequest
from .server import ask_server
from .table_names import table_name

_ATTEMPTS: Final = 10
"""How many times the tables are looked up. A message that finds them altered has locked them, so
they cannot change after that; unless it cannot lock them, or a sequence or function was altered.
"""


_Looked = TypeVar("_Looked", bound=Wanted)


def take_until_held(
    connection: Connection, look: Callable[[], _Looked | None]
) -> tuple[_Looked, list[list[Any]]] | None:
    """Look up the tables and take ids; repeat if another session has altered the tables in between.
    Return what was wanted in the last attempt, and the ids of each request; ``None``: nothing was
    taken.

    :param look: returns what is wanted according to the known facts of the tables, which it may
        read; ``None`` if nothing is wanted any more.
    """
    for _ in range(_ATTEMPTS):
        with reading_before_lock(connection):
            wanted = look()
        if wanted is None:
            return None
        taken = take_ids(connection, wanted)
        if taken.holds:
            return wanted, taken.ids
    return None


def hindrance(connection: Connection, state: str) -> Reason | None:
    """Say why no table could be locked, or compared with its facts, on a connection whose
    transaction is in this state. Reading the catalogue begins the transaction.
    """
    if state == "autocommit":
        return why.AUTOCOMMIT
    if sees_the_present(connection):
        return None
    if state == "open" or driver_of(connection.dialect) is None:
        return why.OLD_SNAPSHOT
    return None


@dataclass(frozen=True, slots=True)
class Reserved:
    """The values reserved for one class, for each generated key column, as its attribute holds
    them; and their source.
    """

    source: KeySequence
    columns: Sequence[Sequence[Any]]

    @property
    def ids(self) -> Sequence[Any]:
        """The values; if several columns are generated, as tuples."""
        return self.columns[0] if len(self.columns) == 1 else list(zip(*self.columns, strict=True))


def reserve(
    connection: Connection, counts: Mapping[Mapper[Any], int]
) -> dict[Mapper[Any], Reserved]:
    """Take ids for each class in one message; in several if tables are altered meanwhile.

    :raises SequenceNotFoundError: a class has no generated key, or its table is altered faster than
        it can be read.
    :raises SequenceExhaustedError: a sequence has no value left.
    """
    sources: dict[Mapper[Any], KeySequence] = {}

    def look() -> Wanted:
        sources.update(resolve(connection, counts, to_write=False))
        for source in sources.values():
            require(source, on_citus=source.is_missing and ask_server(connection).kind == "citus")
        requests = [
            IdRequest(part, count)
            for mapper, count in counts.items()
            for part in sources[mapper].parts
        ]
        order = [table_name(connection, table) for table in in_insert_order(counts)]
        return Wanted(requests, order=order)

    found = take_until_held(connection, look)
    if found is not None:
        ids = iter(found[1])
        return {
            mapper: Reserved(source, [_converted(part, next(ids)) for part in source.parts])
            for mapper, source in sources.items()
        }
    names = ", ".join(mapper.class_.__name__ for mapper in counts)
    raise SequenceNotFoundError(
        f"No ids can be reserved for {names}: what the catalogue says of the tables did not hold "
        f"{_ATTEMPTS} times in a row. Expected tables that rest for the time of a query; or, under "
        "REPEATABLE READ or SERIALIZABLE, a reservation before anything is read"
    )


def _converted(source: KeySequence, ids: Sequence[Any]) -> Sequence[Any]:
    return list(map(source.to_python, ids)) if source.to_python is not None else ids
