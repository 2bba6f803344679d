"""Reserves ids outside a flush: as often as it takes for what is known of a table to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper

from .._drivers import driver_of, drop_snapshot
from ..errors import SequenceNotFoundError
from . import catalogue
from .fetch import IdRequest, take_ids
from .insert_order import in_insert_order
from .keys import KeySequence, require, resolve
from .server import ask_server

_ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class Reserved:
    """The values of one class, per generated key column as its attribute holds them, and what they
    are from.
    """

    source: KeySequence
    columns: Sequence[Sequence[Any]]

    @property
    def ids(self) -> Sequence[Any]:
        """The values; where several columns are generated, as tuples."""
        return self.columns[0] if len(self.columns) == 1 else list(zip(*self.columns, strict=True))


def reserve(
    connection: Connection, counts: Mapping[Mapper[Any], int]
) -> dict[Mapper[Any], Reserved]:
    """Take ids for each class in one message; in more where tables are altered meanwhile.

    :raises SequenceNotFoundError: a class has no key that is generated, or its table is
        altered faster than it can be looked at.
    :raises SequenceExhaustedError: a sequence has no value left.
    """
    driver = driver_of(connection.dialect)
    for _ in range(_ATTEMPTS):
        idle = driver is not None and driver.transaction_status(connection.connection) == "idle"
        sources = resolve(connection, counts, to_write=False)
        for source in sources.values():
            require(source, on_citus=source.is_missing and ask_server(connection).kind == "citus")
        if idle:
            drop_snapshot(connection)
        requests = [
            IdRequest(part, count)
            for mapper, count in counts.items()
            for part in sources[mapper].parts
        ]
        order = [catalogue.table_name(connection, table) for table in in_insert_order(counts)]
        taken = take_ids(connection, requests, order=order)
        if taken.holds:
            ids = iter(taken.ids)
            return {
                mapper: Reserved(
                    sources[mapper],
                    [_converted(part, next(ids)) for part in sources[mapper].parts],
                )
                for mapper in counts
            }
    names = ", ".join(mapper.class_.__name__ for mapper in counts)
    raise SequenceNotFoundError(
        f"No ids can be reserved for {names}: what the catalogue says of the tables did not hold "
        f"{_ATTEMPTS} times in a row. Expected tables that rest for the time of a query; or, under "
        "REPEATABLE READ or SERIALIZABLE, a reservation before anything is read"
    )


def _converted(source: KeySequence, ids: Sequence[Any]) -> Sequence[Any]:
    return list(map(source.to_python, ids)) if source.to_python is not None else ids
