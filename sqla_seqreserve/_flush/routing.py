"""Decides how the new objects of a flush are written: the questions, in order, that a flush and
``explain()`` ask.

1. :func:`stay_out`: does SQLAlchemy write the whole flush, because nothing costs less?
2. :func:`hierarchy_reason`: must SQLAlchemy save a whole hierarchy by itself?
3. :func:`chosen_route`: which classes does COPY write, and are keys reserved first?
4. :func:`copy_way`: can COPY write the class, given what is known of its tables?

The values of the objects are checked while their keys are reserved (``_flush.reserving``), and
again when their rows are collected (``_rows.division``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper, Session

from .. import _reasons as why
from .._database import known_of
from .._drivers import Driver, driver_of, driver_on, may_compare
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.keys import generated_key, lacks_key
from .._ids.server import server_kind, server_of
from .._ids.table_names import TableName, table_name
from .._reasons import Reason
from .._routes import Distance, Pending, Route, Wishes, choose, copy_crossover
from .._rows.plan import InsertPlan, insert_plan
from .._sqlalchemy.mapping import kept_with, sentinel_of_several, watches_insert
from .._sqlalchemy.session import is_sharded, peek_connection, peek_dialect, pending_mutations
from .._sqlalchemy.unit_of_work import State
from .._writers.copy import no_copy_reason, refused_types
from .commit_along import expects_commit
from .passthrough import Passthrough
from .settings import Settings
from .way import Way

FEWEST: Final = 8
"""The fewest rows of one kind that are worth a COPY; fewer are sent by INSERT."""

_FEWEST_SPREAD: Final = 50
"""The same for a table with many shards: a COPY writes one shard after the other."""

_FEWEST_CHANGED: Final = 50
"""The number of changed or deleted objects from which SQLAlchemy's steps cost more than taking the
flush over.
"""

_SPREAD: Final[Mapping[str | None, int]] = {"citus": 2, None: 8}
"""By kind of server: from how many rows one INSERT may change so many shards at once that its cost
must be weighed. ``None`` (the server was not yet asked for its kind): from how many rows it is
worth asking, once.
"""

NOTHING_TO_ASK: Final = Passthrough(None, Distance(), begun=False, commits=False)

NONE: Final[Mapping[Mapper[Any], Sequence[State]]] = {}

_known_reason: Final[Callable[[InsertPlan], Reason | None]] = attrgetter("reason")


# The whole flush


def stay_out(
    uow: Any, settings: Settings, pending: Mapping[Mapper[Any], Sequence[State]]
) -> Passthrough | None:
    """How to leave the flush to SQLAlchemy; ``None`` if this package must write part of it. Called
    before the flush has its connection.

    :param pending: the new objects that the flush inserts.
    """
    if not pending:
        return NOTHING_TO_ASK
    if not settings.is_plain or uow.session.twophase:
        return None
    for mapper in pending:
        if watches_insert(mapper) or not settings.enrols(mapper) or not mapper.base_mapper.batch:
            return None
    peeked = peek_connection(uow, pending)
    if peeked is None:
        return None
    dialect, connection = peeked
    driver = driver_of(dialect) if connection is None else driver_on(connection)
    if driver is None:
        return None
    begun = connection is not None and driver.transaction_status(connection.connection) == "open"
    weighed = [
        (len(states), len(mapper.tables), lacks_key(mapper, states))
        for mapper, states in pending.items()
    ]
    distance = known_of(dialect, Distance)
    keeps = bool(settings.prefetch)
    key = (begun, driver, keeps, *weighed)
    numbered: tuple[bool, bool] | None = distance.chosen.get(key)
    if numbered is None:
        fewest = _SPREAD.get(server_kind(dialect))
        if fewest is not None and any(rows >= fewest for rows, _, _ in weighed):
            return None
        classes = tuple(Pending(*one) for one in weighed)
        wishes = [Wishes(kept=keeps, commits=commits) for commits in (False, True)]
        apart, along = (
            chosen_route(classes, driver, distance, begun=begun, wishes=wish).is_numbered
            for wish in wishes
        )
        numbered = distance.keep(key, (apart, along))
    commits = False
    if len(weighed) == 1 or numbered[0] is not numbered[1]:
        # The only INSERT returns a key, so the table is compared before the COMMIT.
        compares = len(weighed) == 1 and weighed[0][1:] == (1, True)
        commits = (not compares or distance.commit_pays()) and expects_commit(uow, settings, driver)
    if not numbered[commits]:
        return None
    return Passthrough(driver, distance, begun=begun, commits=commits)


def is_alone(uow: Any, settings: Settings) -> bool:
    """Whether SQLAlchemy writes a flush of one object without further questions: no other way could
    cost less, and no COMMIT is to travel with it.
    """
    [(state, fate)] = uow.states.items()
    mapper, is_new = state.manager.mapper, state.key is None
    if is_new and (
        fate != (False, False)
        or not settings.is_plain
        or uow.session.twophase
        or len(mapper.tables) != 1
        or watches_insert(mapper)
    ):
        return False
    if uow.presort_actions and (_changes_links(state) or (is_new and may_refer_to_itself(mapper))):
        return False
    dialect = peek_dialect(uow)
    driver = driver_of(dialect) if dialect is not None else None
    if dialect is None or driver is None or not driver.times_begin:
        return not is_new
    if not driver.commits_along:
        return True
    # The COMMIT can travel with an INSERT that returns a key if the server is far enough to pay for
    # the comparison; with an INSERT of a known key it always can.
    if known_of(dialect, Distance).commit_pays():
        return not is_new and not may_gather(uow, settings, NONE)
    return not is_new or lacks_key(mapper, (state,))


def changes_pay(mapper: Mapper[Any], objects: int) -> bool:
    """Whether changing or deleting this many persistent objects costs less in this package's steps.
    SQLAlchemy's steps take longer for each object, and for classes with a version counter it sends
    one UPDATE after the other.
    """
    return objects >= (_FEWEST_CHANGED if mapper.version_id_col is None else 2)


def may_gather(
    uow: Any, settings: Settings, pending: Mapping[Mapper[Any], Sequence[State]]
) -> bool:
    """Whether the statements of the flush may travel in one message: there may be several, not all
    of them INSERTs (changed and deleted objects, link rows), and the driver sends several in one
    message. Called before the flush has its connection; only cheap checks are made. SQLAlchemy
    sends a flush of one statement, unless its COMMIT may travel along and the server is far.

    :param pending: the new objects that the flush inserts.
    """
    states = uow.states
    if len(states) == sum(map(len, pending.values())) or settings.mode != "bulk":
        return False
    is_one = len(states) == 1
    if is_one and bool(uow.presort_actions) and _changes_links(*states):
        is_one = False
    elif not any(state.key is not None and not listed for state, (_, listed) in states.items()):
        return False
    if uow.session.twophase or is_sharded(uow.session):
        return False
    dialect = peek_dialect(uow)
    driver = driver_of(dialect) if dialect is not None else None
    if dialect is None or driver is None:
        return False
    distance = known_of(dialect, Distance)
    if is_one or (not driver.executes_each and _is_of_one_kind(uow)):
        # It is one statement anyway; only the COMMIT could travel with it.
        return distance.commit_pays() and expects_commit(uow, settings, driver)
    return distance.rounded >= driver.gathers_from


def _is_of_one_kind(uow: Any) -> bool:
    """Whether all objects of the flush are changed objects of one class with one table, so that
    SQLAlchemy sends one statement anyway.
    """
    if len(uow.mappers) > 1 or uow.presort_actions:
        return False
    [mapper] = uow.mappers
    return len(mapper.tables) == 1 and not any(deleted for deleted, _ in uow.states.values())


_REFERS: Final = "refers to itself"


def may_refer_to_itself(mapper: Mapper[Any]) -> bool:
    """Whether an object of a class may refer to another object of its hierarchy."""
    kept = kept_with(mapper)
    found: bool | None = kept.get(_REFERS)
    if found is None:
        base = mapper.base_mapper
        found = any(related.mapper.base_mapper is base for related in mapper.relationships)
        kept[_REFERS] = found
    return found


def _changes_links(state: State) -> bool:
    """Whether a many-to-many relationship of an object, which link rows store, was changed."""
    return any(
        prop.secondary is not None
        and (prop.key in state.committed_state or prop.key in pending_mutations(state))
        for prop in state.manager.mapper.relationships
    )


# A hierarchy


def session_reason(session: Session) -> Reason | None:
    """Why SQLAlchemy saves everything in a session."""
    if is_sharded(session):
        return why.SHARDED
    return why.TWO_PHASE if session.twophase else None


def hierarchy_reason(
    settings: Settings,
    base_mapper: Mapper[Any],
    connection: Connection,
    interference: Callable[[Connection], Reason | None],
) -> Reason | None:
    """Why SQLAlchemy must save a whole hierarchy itself on this connection; ``None`` if COPY may.
    :func:`session_reason` comes before it.

    :param interference: returns what could see, change, replace or refuse an INSERT.
    """
    if settings.mode == "off":
        return why.MODE_OFF
    if not base_mapper.batch:
        return why.NOT_BATCHED
    sentinel = sentinel_of_several(base_mapper)
    if sentinel is not None:
        return why.sentinel(sentinel.name)
    if connection.dialect.name != "postgresql":
        return why.not_postgresql(connection.dialect.name)
    reason = server_of(connection).reason
    if reason is not None:
        return reason
    if settings.mode == "reserve":
        return why.MODE_RESERVE
    return no_copy_reason(connection) or interference(connection)


# A connection


def chosen_route(
    pending: tuple[Pending, ...],
    driver: Driver | None,
    distance: Distance,
    *,
    begun: bool,
    wishes: Wishes,
) -> Route:
    """The cheapest way to write a flush, by the rounded distance to the server. An application's
    flushes are alike, so the choice is made once and stored.
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
    connection: Connection,
    driver: Driver | None,
    mappers: Iterable[Mapper[Any]],
    *,
    needed: bool = False,
    commits: bool = False,
) -> Wishes:
    """What is asked for in a flush of these classes, whatever it costs. Keys are reserved before
    the first INSERT if the settings ask for it, if a listener may look at them, or if the flush
    needs them.

    :param needed: the flush needs the keys before the first INSERT.
    :param commits: the COMMIT may travel with the flush.
    """
    reserve = (
        needed
        or settings.reserve == "always"
        or settings.mode == "reserve"
        or any(watches_insert(mapper) for mapper in mappers)
    )
    # If a number of rows is asked for, fewer rows go in pages, and more by COPY.
    arrays = (
        settings.copy_min_rows is None and driver is not None and may_compare(connection, driver)
    )
    return Wishes(reserve, settings.copy_min_rows, bool(settings.prefetch), commits, arrays)


def fewest_of(facts: TableFacts, asked: int | None = None) -> int:
    """The fewest rows of one kind that are worth a COPY into this table.

    :param asked: the number that the settings ask for (``copy_min_rows``).
    """
    if asked is not None:
        return asked
    return _FEWEST_SPREAD if facts.distributed else FEWEST


# A class


def copy_way(
    connection: Connection,
    mapper: Mapper[Any],
    names: Mapping[Table, TableName],
    facts: Mapping[TableName, TableFacts | None],
    refusal: Callable[[InsertPlan], Reason | None] = _known_reason,
) -> Way:
    """The way to write a class by COPY, or the reason why COPY cannot write it.

    :param names: the names of the class's tables, and maybe of others.
    :param facts: what is known of these tables.
    :param refusal: returns why COPY cannot write the rows of a plan.
    """
    plans: dict[Table, InsertPlan] = {}
    for table in plain_tables(mapper):
        known = facts[names[table]]
        if known is None:
            return Way("orm", why.NO_TABLE)
        plan = plans[table] = insert_plan(mapper, table, known, connection.dialect)
        reason = refusal(plan) or refused_types(connection, plan)
        if reason is not None:
            return Way("orm", reason, plans)
    return Way("copy", None, plans)


def plain_tables(mapper: Mapper[Any]) -> list[Table]:
    """The tables of a class, without the selects and joins that it may be mapped to."""
    return [table for table in mapper.tables if isinstance(table, Table)]


def is_distributed(connection: Connection, mapper: Mapper[Any]) -> bool:
    """Whether Citus distributes the rows of a class over its nodes, by the cached facts only:
    nothing is read from the server.
    """
    names = [table_name(connection, table) for table in plain_tables(mapper)]
    return any(facts.distributed for facts in catalogue.cached_facts(connection, names))


def copy_from(
    settings: Settings,
    connection: Connection,
    mapper: Mapper[Any],
    *,
    begun: bool,
) -> int:
    """The number of rows from which COPY writes a class that is alone in its flush."""
    if settings.copy_min_rows is not None:
        return settings.copy_min_rows
    driver = driver_on(connection)
    assert driver is not None
    found = copy_crossover(
        driver,
        known_of(connection.dialect, Distance).round_trip,
        len(mapper.tables),
        generated=generated_key(mapper).column is not None,
        begun=begun,
        wishes=wishes_for(settings, connection, driver, [mapper]),
        distributed=is_distributed(connection, mapper),
    )
    return max(found, FEWEST)
