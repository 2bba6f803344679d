"""A session's states, and how objects become persistent in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.orm import Mapper, Session, base
from sqlalchemy.orm.base import NEVER_SET, NO_VALUE
from sqlalchemy.orm.state import InstanceState

from .mapping import polymorphic_attribute
from .unit_of_work import State, UOWTransaction


def connection_for(uow: UOWTransaction, base_mapper: Mapper[Any]) -> Connection:
    """The connection that the flush uses for ``base_mapper``."""
    connection: Connection = uow.transaction.connection(base_mapper)
    return connection


def connection_of_rows(session: Session, mapper: Mapper[Any]) -> Connection | None:
    """Return the connection by which SQLAlchemy inserts rows of a class: that of the class,
    whichever the statement was to be executed on; ``None`` if it depends on the rows.
    """
    if is_sharded(session):
        return None
    return session.connection(bind_arguments={"mapper": mapper.base_mapper})


def peek_connection(
    uow: UOWTransaction, mappers: Iterable[Mapper[Any]]
) -> tuple[Dialect, Connection | None] | None:
    """Return the dialect to which objects of all these classes go, and the connection if the
    session's transaction has one already; ``None`` if that is not certain without asking the
    session: they go to several, or by the session's own ``get_bind()``, or a savepoint is open.
    """
    session = uow.session
    if type(session).get_bind is not Session.get_bind:
        return None
    binds = {session.get_bind(mapper.base_mapper) for mapper in mappers}
    if len(binds) != 1:
        return None
    [bind] = binds
    transaction = uow.transaction
    while transaction is not None and not transaction.nested:
        found = transaction._connections.get(bind)
        if found is not None:
            return bind.dialect, found[0]
        transaction = transaction._parent
    return (bind.dialect, None) if transaction is None else None


def peek_dialect(uow: UOWTransaction) -> Dialect | None:
    """The dialect that objects of the flush go to; ``None`` if an own ``get_bind()`` decides."""
    session = uow.session
    if type(session).get_bind is not Session.get_bind:
        return None
    return session.get_bind(next(iter(uow.mappers)).base_mapper).dialect


def pending_mutations(state: State) -> Collection[str]:
    """The keys of collections that were changed without being loaded."""
    found: Collection[str] = state.__dict__.get("_pending_mutations", ())
    return found


def has_one_bind(uow: UOWTransaction) -> bool:
    """Whether all objects of the flush certainly go to one database."""
    session = uow.session
    return type(session).get_bind is Session.get_bind and (
        len({session.get_bind(mapper.base_mapper) for mapper in uow.mappers}) == 1
    )


def is_sharded(session: Session) -> bool:
    """Whether the session picks a connection for each object (horizontal sharding)."""
    return session.connection_callable is not None


def expire_attributes(state: State, attributes: Iterable[str]) -> None:
    """Expire these attributes, so that the next access loads them."""
    state._expire_attributes(state.dict, attributes)


def pending_states(session: Session) -> Collection[State]:
    """The objects that are new to the session, as it changes."""
    return session._new


def register_deleted(session: Session, states: set[State]) -> None:
    """Remove objects whose row was deleted from the session."""
    session._remove_newly_deleted(states)


def register_persistent(session: Session, states: set[State]) -> None:
    """Register objects whose row was inserted or updated as persistent."""
    session._register_persistent(states)


def register_inserted(session: Session, states: Iterable[State]) -> Collection[State]:
    """Register pending objects that have their whole key as persistent; return those that were.

    What ``Session._register_persistent`` does for such an object, in one loop, without asking the
    instrumentation for each value. The others (persistent ones, keys that are not whole, keys in
    use, all of them if anyone listens) are left to it.
    """
    done: list[State] = []
    if session.dispatch.pending_to_persistent:
        return done
    new, identity_map = session._new, session.identity_map
    known, reference = identity_map._dict, identity_map._wr
    transaction = session._transaction
    keys: dict[Any, tuple[Any, tuple[str, ...]]] = {}
    last: Any = None
    identity_class: Any = None
    attributes: tuple[str, ...] = ()
    only: str | None = None
    for state in states:
        if state.key is not None or state not in new:
            continue
        manager = state.manager
        if manager is not last:
            last = manager
            if manager not in keys:
                mapper = manager.mapper
                keys[manager] = (
                    mapper._identity_class,
                    tuple(prop.key for prop in mapper._identity_key_props),
                )
            identity_class, attributes = keys[manager]
            only = attributes[0] if len(attributes) == 1 else None
        row = state.dict
        values: tuple[Any, ...]
        if only is not None:
            value = row.get(only)
            if value is None:
                continue
            values = (value,)
        else:
            values = tuple([row.get(attribute) for attribute in attributes])
            if None in values:
                continue
        key = (identity_class, values, state.identity_token)
        if known.setdefault(key, state) is not state:
            continue
        state.key = key
        state._instance_dict = reference
        state._orphaned_outside_of_session = False
        state.committed_state.clear()
        if "_pending_mutations" in state.__dict__:
            del state.__dict__["_pending_mutations"]
        if state.expired_attributes:
            state.expired_attributes.difference_update(row)
        state.modified = state.expired = False
        state._strong_obj = None
        done.append(state)
    if transaction is not None:
        transaction._new.update(dict.fromkeys(done, True))
    if len(done) == len(new):
        new.clear()
    else:
        for state in done:
            del new[state]
    return done


def register_changed(session: Session, states: Iterable[State]) -> Collection[State]:
    """Register persistent objects whose key is what it was as flushed; return those that were.

    What ``Session._register_persistent`` does for such an object, without asking the
    instrumentation for its key. The others are left to it.
    """
    done: dict[State, dict[str, Any]] = {}
    identity_map, transaction = session.identity_map, session._transaction
    known = identity_map._dict
    attributes: dict[Any, Sequence[str]] = {}
    for state in states:
        key, manager = state.key, state.manager
        if key is None or known.get(key) is not state or state.obj() is None:
            continue
        names = attributes.get(manager)
        if names is None:
            names = attributes[manager] = [prop.key for prop in manager.mapper._identity_key_props]
        row = state.dict
        if (
            key[1] != tuple([row.get(name) for name in names])
            or None in key[1]
            or key[2] != state.identity_token
        ):
            continue
        state._orphaned_outside_of_session = False
        done[state] = row
    InstanceState._commit_all_states(done.items(), identity_map)
    if transaction is not None:
        transaction._dirty.update(dict.fromkeys(done, True))
    return done


def instances_of(
    session: Session, mapper: Mapper[Any], values: Iterable[dict[str, Any]]
) -> list[Any]:
    """Make persistent instances of attribute values that were just written, their keys among them.

    They become part of the session as flushed objects do, so a rollback expunges them. Attributes
    that have no value are loaded when they are next asked for. ``load`` fires without a context, as
    it does for what ``merge()`` copies (so mutable values are tracked), and
    ``loaded_as_persistent``. An object that the session holds already, of a row that was there
    before, is expired instead. A row whose discriminator names a subclass is one of that.
    """
    identity_class = mapper._identity_class
    key_attributes = [prop.key for prop in mapper._identity_key_props]
    polymorphic = polymorphic_attribute(mapper)
    identity_map, reference = session.identity_map, session.identity_map._wr
    known = identity_map._dict
    in_transaction = session._autobegin_t()._new
    hash_key = session.hash_key
    loaded = session.dispatch.loaded_as_persistent
    made: dict[Any, tuple[Any, frozenset[str], Any]] = {}
    instances = []
    for held in values:
        identity = held.get(polymorphic) if polymorphic is not None else None
        if identity not in made:
            made[identity] = _making(mapper, identity)
        manager, loadable, load = made[identity]
        key = (identity_class, tuple([held[attribute] for attribute in key_attributes]), None)
        state = known.get(key)
        if state is not None:
            instance = state.obj()
            if instance is not None:
                state._expire(state.dict, identity_map._modified)
                instances.append(instance)
                continue
        instance = manager.new_instance()
        state = base.instance_state(instance)
        base.instance_dict(instance).update(held)
        state.key = key
        state.session_id = hash_key
        state._instance_dict = reference
        state.expired_attributes.update(loadable.difference(held))
        known[key] = state
        in_transaction[state] = True
        instances.append(instance)
        if load:
            load(state, None)
        if loaded:
            loaded(session, state)
    return instances


def _making(mapper: Mapper[Any], identity: Any) -> tuple[Any, frozenset[str], Any]:
    """Return what makes instances of a row with this discriminator, the attributes that they load,
    and the listeners to that.
    """
    found = mapper.polymorphic_map.get(identity, mapper) if identity is not None else mapper
    manager = found.class_manager
    loadable = frozenset(prop.key for prop in found.column_attrs if not prop.deferred)
    return manager, loadable, manager.dispatch.load


def had_members(state: State, key: str) -> bool:
    """Whether the relationship of a new object held something before what it holds now."""
    before = state.committed_state.get(key, NO_VALUE)
    return not (before is NO_VALUE or before is None or before is NEVER_SET) and (
        not hasattr(before, "__len__") or len(before) > 0
    )


def persistent_of(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether the session holds persistent objects of the class's hierarchy."""
    identity_class = mapper._identity_class
    return any(key[0] is identity_class for key in session.identity_map._dict)


def expire_unmodified(
    session: Session, mapper: Mapper[Any], keys: Iterable[tuple[Any, ...]]
) -> None:
    """Expire the objects with these keys, so that the next access loads them; changes in them that
    are not flushed yet stay. The rollback of a savepoint expires them again.
    """
    if not persistent_of(session, mapper):
        # The keys may be those of all rows of a job.
        return
    identity_class, known = mapper._identity_class, session.identity_map._dict
    altered = []
    for key in keys:
        state = known.get((identity_class, key, None))
        if state is not None:
            # The discriminator of concrete classes is no attribute of their objects.
            attributes = state.manager.keys() & {prop.key for prop in state.manager.mapper.attrs}
            state._expire_attributes(state.dict, attributes.difference(state.committed_state))
            altered.append(state)
    session._register_altered(altered)


def remove_deleted(session: Session, mapper: Mapper[Any], keys: Iterable[tuple[Any, ...]]) -> None:
    """Remove the objects with these keys from the session, because their row was deleted."""
    identity_class, known = mapper._identity_class, session.identity_map._dict
    states = (known.get((identity_class, key, None)) for key in keys)
    session._remove_newly_deleted([state for state in states if state is not None])
