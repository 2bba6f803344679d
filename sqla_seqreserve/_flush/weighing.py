"""What a flush and ``explain()`` both ask before a route is chosen: who must write a class, what
stands in the way of COPY on a connection, and from how many rows COPY pays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._database import database_of
from .._drivers import Driver, driver_of, driver_on
from .._ids import catalogue
from .._ids.keys import generated_key
from .._ids.server import server_of
from .._reasons import Reason
from .._routes import Distance, Pending, Route, Wishes, choose, copy_crossover
from .._sqlalchemy.engine import sees_the_present
from .._sqlalchemy.mapping import watches_insert
from .._writers.copy import no_copy_reason
from .settings import Settings

FEWEST: Final = 8
"""Of one kind of rows among many: fewer are sent by INSERT."""

_FEWEST_SPREAD: Final = 50
"""The same where they go to many shards: a COPY goes from one to the next."""

NO_WISHES: Final = Wishes()


def class_reason(
    settings: Settings, base_mapper: Mapper[Any], connection: Connection
) -> Reason | None:
    """Why SQLAlchemy must save a whole hierarchy itself on this connection; ``None``: COPY may."""
    if settings.mode == "off":
        return why.MODE_OFF
    if not base_mapper.batch:
        return why.NOT_BATCHED
    if connection.dialect.name != "postgresql":
        return why.not_postgresql(connection.dialect.name)
    reason = server_of(connection).reason
    if reason is not None:
        return reason
    if settings.mode == "reserve":
        return why.MODE_RESERVE
    return no_copy_reason(connection)


def transaction_status(connection: Connection) -> str:
    """Whether the connection's next statement begins a transaction, as far as its driver tells."""
    driver = driver_of(connection.dialect)
    return driver.transaction_status(connection.connection) if driver is not None else "open"


def hindrance(connection: Connection, state: str) -> Reason | None:
    """Why no table could be locked, or compared with what is known of it, on a connection whose
    transaction is in this state.
    """
    if state == "autocommit":
        return why.AUTOCOMMIT
    if sees_the_present(connection):
        return None
    if state == "open" or driver_of(connection.dialect) is None:
        return why.OLD_SNAPSHOT
    return None


def chosen_route(
    pending: tuple[Pending, ...],
    driver: Driver | None,
    distance: Distance,
    *,
    begun: bool,
    wishes: Wishes = NO_WISHES,
) -> Route:
    """The cheapest way of a flush, by about the distance: an application's flushes are
    alike, and weighed once.
    """
    if driver is None:
        return choose(pending, None, 0, begun=begun, wishes=wishes)
    key = (pending, driver, begun, wishes)
    route: Route | None = distance.chosen.get(key)
    if route is None:
        route = choose(pending, driver, distance.rounded, begun=begun, wishes=wishes)
        distance.keep(key, route)
    return route


def wishes_for(
    settings: Settings,
    mappers: Iterable[Mapper[Any]],
    *,
    needed: bool = False,
    commits: bool = False,
) -> Wishes:
    """What is asked for in a flush of these classes, whatever it costs. Keys are to be there before
    the first INSERT where that is asked for, where somebody may look, or where they are needed.
    """
    reserve = (
        needed
        or settings.reserve == "always"
        or settings.mode == "reserve"
        or any(watches_insert(mapper) for mapper in mappers)
    )
    return Wishes(reserve, settings.copy_min_rows, bool(settings.prefetch), commits)


def fewest_of(facts: catalogue.TableFacts) -> int:
    """The fewest rows of one kind that are worth a COPY into this table."""
    return _FEWEST_SPREAD if facts.distributed else FEWEST


def is_distributed(connection: Connection, mapper: Mapper[Any]) -> bool:
    """Whether Citus spreads the rows of a class over its nodes, as far as that is known; nothing is
    read.
    """
    names = [
        catalogue.table_name(connection, table)
        for table in mapper.tables
        if isinstance(table, Table)
    ]
    return any(facts.distributed for facts in catalogue.cached_facts(connection, names))


def copy_from(
    settings: Settings,
    connection: Connection,
    mapper: Mapper[Any],
    *,
    begun: bool,
) -> int:
    """From how many rows COPY writes a class that is alone in its flush."""
    if settings.copy_min_rows is not None:
        return settings.copy_min_rows
    driver = driver_on(connection)
    assert driver is not None
    found = copy_crossover(
        driver,
        database_of(connection.dialect).distance.round_trip,
        len(mapper.tables),
        generated=generated_key(mapper).column is not None,
        begun=begun,
        wishes=wishes_for(settings, [mapper]),
        distributed=is_distributed(connection, mapper),
    )
    return max(found, FEWEST)
