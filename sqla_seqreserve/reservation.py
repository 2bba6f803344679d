"""Reserve primary keys before anything is inserted.

::

    ids = reserve_ids(session, Order, 500)                      # ReservedIds, in nextval order
    both = reserve_ids(session, {Order: 500, Item: 4000})       # several classes, one round trip
    assign_ids(session, [order, item_1, item_2])                # fill the keys of new objects now

An id comes only from ``nextval``, or from the column's own default if that is another function. So
it is unique against every other writer: other reservers, plain INSERTs that use the column's
default, programs in other languages. Ids of one reservation ascend (descend, under a negative
increment) and are *not* promised to be consecutive. PostgreSQL does not take a reserved id back
when a transaction rolls back.
"""

from __future__ import annotations

import collections.abc
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, SupportsIndex, TypeAlias, overload

from sqlalchemy import Connection, Subquery, insert, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstanceState, Mapped, Mapper, Session, scoped_session
from sqlalchemy.orm.attributes import set_committed_value
from typing_extensions import TypeVar

from . import _audit as audit
from ._ids.keys import generated_key, mapper_of
from ._ids.read_only import read_only_told
from ._ids.reserve import reserve
from ._ids.server import server_of
from ._sqlalchemy.session import is_sharded
from .errors import (
    ConfigurationError,
    InvalidCountError,
    UnmappedClassError,
    UnsupportedDatabaseError,
)

__all__ = ["HasId", "ReservedIds", "SessionOrConnection", "assign_ids", "reserve_ids"]

log = logging.getLogger("sqla_seqreserve.reservation")

SessionOrConnection: TypeAlias = Session | scoped_session[Any] | Connection
"""A session or connection on which ids can be reserved; for asynchronous ones use
:mod:`sqla_seqreserve.aio`.
"""

_SHOWN: Final = 3


_Key = TypeVar("_Key", default=Any)
_OfId = TypeVar("_OfId")
_IdOf = TypeVar("_IdOf", covariant=True)


class HasId(Protocol[_IdOf]):
    """A mapped class whose key is called ``id``: it lets a type checker infer the type of its
    ids.
    """

    @property  # and no variable, which would have to be of that very type in every checker's eyes
    def id(self) -> Mapped[_IdOf]:
        """The key."""
        ...


class ReservedIds(collections.abc.Sequence[_Key]):
    """An immutable sequence of keys. A key is an ``int``, a ``UUID``, a ``str``, or a tuple for a
    key of several columns. Reserved ids are distinct and in ``nextval`` order; they are not
    promised to be consecutive.
    """

    __slots__ = ("_ids",)

    def __init__(self, ids: Iterable[_Key] = ()) -> None:
        self._ids = tuple(ids)

    @overload
    def __getitem__(self, index: SupportsIndex) -> _Key: ...
    @overload
    def __getitem__(self, index: slice) -> ReservedIds[_Key]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> _Key | ReservedIds[_Key]:
        return ReservedIds(self._ids[index]) if isinstance(index, slice) else self._ids[index]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> collections.abc.Iterator[_Key]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        return self._ids == other._ids if isinstance(other, ReservedIds) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._ids)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self._ids[:_SHOWN])) + (", ..." if len(self) > _SHOWN else "")
        return f"<ReservedIds: {len(self)} [{shown}]>"


@overload
def reserve_ids(
    session_or_connection: SessionOrConnection, model: type[HasId[_OfId]], count: int
) -> ReservedIds[_OfId]: ...
@overload
def reserve_ids(
    session_or_connection: SessionOrConnection, model: type[Any], count: int
) -> ReservedIds: ...
@overload
def reserve_ids(
    session_or_connection: SessionOrConnection, model: Mapping[type[Any], int]
) -> dict[type[Any], ReservedIds]: ...
@audit.failures_logged(log)
def reserve_ids(
    session_or_connection: SessionOrConnection,
    model: type[Any] | Mapping[type[Any], int],
    count: int | None = None,
) -> ReservedIds | dict[type[Any], ReservedIds]:
    """Take ids from the sequences of one or more mapped classes, in one round trip. For a key whose
    default is a volatile function (``gen_random_uuid()``), take values of that function.

    :param model: a mapped class, with ``count``; or a mapping of mapped class -> count, without
        ``count``.
    :param count: how many ids, 0 or more. 0 takes none; the catalogue may still be read.
    :return: for one class its :class:`ReservedIds`; for a mapping, a dictionary with the same keys
        in the same order. If the database generates several columns of the key, an id is a tuple of
        their values.
    :raises UnmappedClassError: a class is not mapped.
    :raises InvalidCountError: a count is negative or not an ``int`` (a ``bool`` is refused too).
    :raises SequenceNotFoundError: a class has no key that the database generates, or one whose
        values cannot be had before the row exists.
    :raises SequenceExhaustedError: a sequence has no value left, or its values do not fit the key's
        type.
    :raises ReadOnlyError: the database is a standby, or the transaction READ ONLY.
    :raises UnsupportedDatabaseError: the session or connection is not bound to PostgreSQL.
    """
    if isinstance(model, Mapping):
        if count is not None:
            raise InvalidCountError(
                "reserve_ids() got a mapping and a count: give the counts in the mapping alone"
            )
        wanted = dict(model)
    else:
        wanted = {model: count}  # type: ignore[dict-item]  # None is refused below, with the class named
    counts = {mapper_of(cls): _checked_count(cls, number) for cls, number in wanted.items()}
    ids: dict[Mapper[Any], ReservedIds] = {}
    for connection, mappers in _by_connection(session_or_connection, counts).items():
        with read_only_told(connection, "reserve_ids()", _names(mappers)):
            found = reserve(connection, {mapper: counts[mapper] for mapper in mappers})
        ids.update((mapper, ReservedIds(taken.ids)) for mapper, taken in found.items())
    if isinstance(model, Mapping):
        return {cls: ids[mapper_of(cls)] for cls in wanted}
    return ids[mapper_of(model)]


@audit.failures_logged(log)
def assign_ids(session: Session | scoped_session[Any], objects: Iterable[object]) -> None:
    """Fill the primary keys of transient or pending objects now, before any flush, in one round
    trip.

    Keys that are set already are kept. Ids follow the order of ``objects``. The flush then inserts
    the objects under these keys.

    :raises UnmappedClassError: an object is not an instance of a mapped class.
    :raises ConfigurationError: an object is persistent, deleted or detached: it has its row and its
        key already.
    :raises SequenceNotFoundError: an object needs a key and its class has none that can be
        reserved.
    :raises ReadOnlyError: the database is a standby, or the transaction READ ONLY.
    """
    needing: dict[Mapper[Any], list[object]] = {}
    for index, item in enumerate(objects):
        state = _new_state(index, item)
        if _lacks_key(state):
            needing.setdefault(state.mapper, []).append(item)
    for connection, mappers in _by_connection(session, needing).items():
        with read_only_told(connection, "assign_ids()", _names(mappers)):
            found = reserve(connection, {mapper: len(needing[mapper]) for mapper in mappers})
        for mapper, taken in found.items():
            for part, values in zip(taken.source.parts, taken.columns, strict=True):
                attribute = part.key.attribute
                for item, value in zip(needing[mapper], values, strict=True):
                    if inspect(item).dict.get(attribute) is None:
                        set_committed_value(item, attribute, value)


def _names(mappers: Iterable[Mapper[Any]]) -> list[str]:
    return [mapper.class_.__name__ for mapper in mappers]


def _lacks_key(state: InstanceState[Any]) -> bool:
    """Whether a key column that the database generates has no value; if the database generates none
    of the key, whether any key column has no value.
    """
    attributes = [part.attribute for part in generated_key(state.mapper).parts] or [
        state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key
    ]
    return any(state.dict.get(attribute) is None for attribute in attributes)


def _new_state(index: int, item: object) -> InstanceState[Any]:
    try:
        state = inspect(item)
    except NoInspectionAvailable:
        state = None
    if not isinstance(state, InstanceState):
        raise UnmappedClassError(
            f"Object {index} is {item!r}: expected an instance of a mapped class"
        )
    if state.key is not None:
        raise ConfigurationError(
            f"Object {index}, {item!r}, has its row and its key {state.key[1]} already: expected a "
            "transient or pending object"
        )
    return state


def _checked_count(model: object, count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        name = model.__name__ if isinstance(model, type) else repr(model)
        raise InvalidCountError(
            f"The number of ids for {name} must be an int of 0 or more, found {count!r}"
        )
    return count


def _by_connection(
    session_or_connection: SessionOrConnection, mappers: Iterable[Mapper[Any]]
) -> dict[Connection, list[Mapper[Any]]]:
    """Return the connection to which each class is bound; the same for all of them, except in a
    session with several binds.
    """
    found: dict[Connection, list[Mapper[Any]]] = {}
    for mapper in mappers:
        found.setdefault(connection_of(session_or_connection, mapper), []).append(mapper)
    return found


def connection_of(
    session_or_connection: SessionOrConnection, mapper: Mapper[Any] | None
) -> Connection:
    """Return the PostgreSQL connection on which a session would insert rows of ``mapper``; a
    connection is returned as it is.

    The session is asked as a flush and an INSERT ask it, so a session that routes reads to a
    replica answers with the primary.

    :raises ConfigurationError: neither a session nor a connection was given, or a session that
        chooses a database for each object.
    :raises UnsupportedDatabaseError: it is bound to another database.
    """
    if isinstance(session_or_connection, Session | scoped_session):
        session = session_or_connection
        session = session() if isinstance(session, scoped_session) else session
        if is_sharded(session):
            raise ConfigurationError(
                f"{type(session).__name__} picks a database for each object, and ids are reserved, "
                "and rows written, one database at a time: use a Session on the engine of the "
                "shard, or add_all() and flush()"
            )
        arguments: dict[str, Any] = {}
        if mapper is not None:
            base = mapper.base_mapper
            table: Any = base.local_table
            if isinstance(table, Subquery):
                # The base of concrete classes, if it has no table itself.
                table = mapper.local_table
            if isinstance(table, Subquery):
                raise ConfigurationError(
                    f"{mapper.class_.__name__} is mapped to a query, and so has no sequence and "
                    "takes no rows. Expected a class that is mapped to a table"
                )
            arguments = {"mapper": base, "clause": insert(table)}
        connection = session.connection(bind_arguments=arguments)
    elif isinstance(session_or_connection, Connection):
        connection = session_or_connection
    else:
        raise ConfigurationError(
            f"Expected a Session or a Connection, found {session_or_connection!r}; an AsyncSession "
            "goes through sqla_seqreserve.aio, or through its run_sync()"
        )
    if connection.dialect.name != "postgresql":
        raise UnsupportedDatabaseError(
            "Ids are reserved, and rows written, on PostgreSQL only; this connection is to "
            f"{connection.dialect.name}"
        )
    reason = server_of(connection).reason
    if reason is not None:
        raise UnsupportedDatabaseError(
            f"No ids are reserved here, and no rows written: {reason}. Use add_all() and flush(), "
            "which SQLAlchemy writes as it would without register()"
        )
    return connection
