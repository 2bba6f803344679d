"""Every private name of SQLAlchemy that this package leans on, for both lines, in this one place.

Read in SQLAlchemy 2.0.58 and 2.1.9. The 2.1 line puts an underscore before the names of the unit of
work; nothing else here differs between the two. ``tests/unit/test_host.py`` fails with the name
when a release moves one.

What is used, and why no public name would do:

``UOWTransaction``
    The unit of work of one flush. :mod:`sqla_seqreserve._flush` runs the flush with a subclass of
    it.
``SaveUpdateAll``, ``SaveUpdateState``, and ``PostSortRec.__new__``
    The actions that insert and update. An action asked for a second time is looked up in
    ``postsort_actions`` by its class and arguments, so a subclass registered there under the stock
    key is executed in place of the stock action.
``persistence``
    ``save_obj`` and the steps that it is made of. We run the same steps in the same order and
    replace the one that collects and sends the INSERT.
``sync``
    Copies a key from a table to the one that inherits from it.
``MetaData._sequences``, ``Column._copy``
    What the Alembic plugin compares, and how a column is rendered otherwise than it is declared.
``WeakInstanceDict`` members, ``InstanceState`` members
    Registering thousands of inserted objects as persistent in a tight loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Column, Connection, Dialect, MetaData, Table
from sqlalchemy import Sequence as Sequence_
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm import attributes as _attributes
from sqlalchemy.orm import persistence as _persistence
from sqlalchemy.orm import sync as _sync
from sqlalchemy.orm import unitofwork as _unitofwork
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import CALLABLES_OK, NEVER_SET, NO_VALUE, PASSIVE_NO_INITIALIZE
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

__all__ = [
    "CALLABLES_OK",
    "HISTORY_BLANK",
    "NO_VALUE",
    "PASSIVE_NO_INITIALIZE",
    "ProcessAll",
    "SaveUpdateAll",
    "SaveUpdateState",
    "State",
    "UOWTransaction",
    "await_driver",
    "bind_processor",
    "collect_insert_commands",
    "collect_update_commands",
    "collection_adapter",
    "copy_column",
    "declared_sequences",
    "driver_cursor",
    "emit_insert_statements",
    "emit_update_statements",
    "finalize_saved",
    "has_bind_expression",
    "insert_orm_defaults",
    "instance_state",
    "key_columns",
    "organize_states_for_save",
    "prefers_eager_defaults",
    "save_obj",
    "synchronize_inherited_keys",
]

State: TypeAlias = InstanceState[Any]


def _either(module: Any, name: str) -> Any:
    """The private ``name`` of 2.0, or its 2.1 spelling with an underscore."""
    return getattr(module, name, None) or getattr(module, f"_{name}")


if TYPE_CHECKING:
    from typing import ClassVar

    class UOWTransaction:
        """What we use of the unit of work, typed: SQLAlchemy's own class carries no annotations."""

        session: Session
        attributes: dict[Any, Any]
        mappers: dict[Mapper[Any], set[State]]
        states: dict[State, tuple[bool, bool]]
        postsort_actions: dict[Any, Any]
        dependencies: set[tuple[Any, Any]]
        transaction: Any

        def register_object(
            self,
            state: State,
            isdelete: bool = False,
            listonly: bool = False,
            cancel_delete: bool = False,
            operation: str | None = None,
            prop: Any = None,
        ) -> bool: ...
        def get_attribute_history(self, state: State, key: str, passive: Any = ...) -> Any: ...
        def _per_mapper_flush_actions(self, mapper: Mapper[Any]) -> None: ...
        def _generate_actions(self) -> set[Any]: ...
        def execute(self) -> None: ...
        def finalize_flush_changes(self) -> None: ...
        def states_for_mapper_hierarchy(
            self, mapper: Mapper[Any], isdelete: bool, listonly: bool
        ) -> Iterator[State]: ...

    class _SaveAction:
        sort_key: ClassVar[Any]
        mapper: Mapper[Any]

        def __init__(self, uow: UOWTransaction, subject: Any) -> None: ...
        def execute(self, uow: UOWTransaction) -> None: ...

    class SaveUpdateAll(_SaveAction):
        def per_state_flush_actions(self, uow: UOWTransaction) -> Iterator[Any]: ...

    class ProcessAll:
        dependency_processor: Any
        isdelete: bool
        fromparent: bool

        def execute(self, uow: UOWTransaction) -> None: ...
        def _elements(self, uow: UOWTransaction) -> Iterator[State]: ...

    class SaveUpdateState(_SaveAction):
        state: State

        def execute_aggregate(self, uow: UOWTransaction, recs: set[Any]) -> None: ...

else:
    UOWTransaction = _unitofwork.UOWTransaction
    ProcessAll = _either(_unitofwork, "ProcessAll")
    SaveUpdateAll = _either(_unitofwork, "SaveUpdateAll")
    SaveUpdateState = _either(_unitofwork, "SaveUpdateState")

HISTORY_BLANK: Any = _attributes.HISTORY_BLANK
_ScalarAttributeImpl: type[Any] = _either(_attributes, "ScalarAttributeImpl")

save_obj: Callable[..., None] = _either(_persistence, "save_obj")
organize_states_for_save: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._organize_states_for_save
)
collect_insert_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_insert_commands
)
collect_update_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_update_commands
)
emit_insert_statements: Callable[..., Any] = _persistence._emit_insert_statements
emit_update_statements: Callable[..., Any] = _persistence._emit_update_statements
finalize_saved: Callable[..., None] = _persistence._finalize_insert_update_commands
_populate: Callable[..., None] = _either(_sync, "populate")


def key_columns(mapper: Mapper[Any], table: Table) -> Sequence[ColumnElement[Any]]:
    """The columns of ``table`` that identify a row of ``mapper``, which need not be the table's
    own primary key.
    """
    return list(mapper._pks_by_table[table])


def insert_orm_defaults(mapper: Mapper[Any], table: Table) -> Mapping[str, Any]:
    """Attribute key -> value of the ORM-level defaults that INSERT delivers (2.1 only;
    SQLAlchemy #13748).
    """
    by_table: Mapping[Any, Sequence[tuple[str, Any, Any]]] | None
    by_table = getattr(mapper, "_insert_orm_defaults", None)
    return {key: value for key, _, value in by_table[table]} if by_table is not None else {}


def prefers_eager_defaults(mapper: Mapper[Any], dialect: Dialect, table: Table) -> bool:
    """Whether server defaults of ``table`` are read back at once, as ``eager_defaults`` asks."""
    prefers: Callable[[Dialect, Table], Any] = mapper.base_mapper._prefer_eager_defaults
    return bool(prefers(dialect, table))


def bind_processor(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """The function that makes a value ready for the driver, as a compiled INSERT would use it;
    ``None``: as it is.
    """
    processor: Callable[[Any], Any] | None = type_._cached_bind_processor(dialect)
    return processor


def has_bind_expression(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether the type wraps its values in SQL, which COPY cannot do."""
    return bool(type_.dialect_impl(dialect)._has_bind_expression or type_._has_bind_expression)


def synchronize_inherited_keys(
    mapper: Mapper[Any], table: Table, state: State, uow: UOWTransaction
) -> None:
    """Copy the key of ``table`` to the attributes of the tables that inherit from it."""
    for parent, pairs in mapper._table_to_equated[table]:
        _populate(state, parent, state, parent, pairs, uow, mapper.passive_updates)


def hands_on_keys(mapper: Mapper[Any], table: Table) -> bool:
    """Whether inserting into ``table`` has a key to hand on to an attribute of another name."""
    return any(
        parent._columntoproperty[left].key != parent._columntoproperty[right].key
        for parent, pairs in mapper._table_to_equated[table]
        for left, right in pairs
    )


def driver_cursor(cursor: DBAPICursor) -> Any:
    """The driver's own cursor below the one that SQLAlchemy adapts for async drivers."""
    return getattr(cursor, "_cursor", cursor)


def await_driver(awaitable: Any) -> Any:
    """Wait for a driver's coroutine from the synchronous code that SQLAlchemy runs in a
    greenlet.
    """
    return await_only(awaitable)


def connection_for(uow: UOWTransaction, base_mapper: Mapper[Any]) -> Connection:
    """The connection that the flush uses for ``base_mapper``."""
    connection: Connection = uow.transaction.connection(base_mapper)
    return connection


def is_sharded(session: Session) -> bool:
    """Whether the session picks a connection for each object (horizontal sharding)."""
    return session.connection_callable is not None


def result_processor(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """The function that turns what the driver returns into the attribute's value; ``None``: as
    it is.
    """
    processor: Callable[[Any], Any] | None = type_._cached_result_processor(dialect, None)
    return processor


def attributes_to_columns(mapper: Mapper[Any], table: Table) -> Mapping[str, Any]:
    """Attribute key -> column of ``table``; another object once the mapping has changed."""
    mapping: Mapping[str, Any] = mapper._propkey_to_col[table]
    return mapping


def server_default_columns(mapper: Mapper[Any], table: Table) -> Sequence[Any]:
    """The columns that the database or an SQL expression may fill, in the table's order."""
    columns = mapper._server_default_cols[table]
    return [column for column in table.columns if column in columns]


def is_sentinel(column: Any) -> bool:
    """Whether the column only serves SQLAlchemy's own multi-row INSERT (``insert_sentinel()``)."""
    return bool(column.default is not None and column.default.is_sentinel)


def tables_in_order(base_mapper: Mapper[Any]) -> Iterator[tuple[Table, Mapper[Any]]]:
    """The tables of an inheritance hierarchy, parents first, each with the mapper that stands
    for it in a save.
    """
    for table, mapper in base_mapper._sorted_tables.items():
        if table in mapper._pks_by_table:
            yield table, mapper


def writes_to(mapper: Mapper[Any], table: Table) -> bool:
    """Whether objects of ``mapper`` have a row in ``table``."""
    return table in mapper._pks_by_table


def expire_attributes(state: State, attributes: Iterable[str]) -> None:
    """Have these attributes loaded again when they are next asked for."""
    state._expire_attributes(state.dict, attributes)


def all_mappers() -> list[Mapper[Any]]:
    """Every configured mapper of the process, by class name."""
    from sqlalchemy.orm import mapperlib

    mappers = {mapper for registry in mapperlib._all_registries() for mapper in registry.mappers}
    return sorted(mappers, key=lambda mapper: (mapper.class_.__name__, mapper.class_.__module__))


def watches_insert(mapper: Mapper[Any]) -> bool:
    """Whether somebody listens for objects of ``mapper`` that are about to be inserted."""
    return bool(mapper.dispatch.before_insert)


def check_polymorphic_identities(records: Iterable[tuple[State, dict[str, Any], Any, Any]]) -> None:
    """Warn of objects whose polymorphic identity is not one of their class, as SQLAlchemy's first
    pass does.
    """
    for state, row, mapper, _ in records:
        validate = mapper._validate_polymorphic_identity
        if validate is not None:
            validate(mapper, state, row)


def has_work_after_insert(mapper: Mapper[Any]) -> bool:
    """Whether SQLAlchemy's last pass over inserted objects of ``mapper`` does anything."""
    return bool(
        mapper.dispatch.after_insert
        or mapper._readonly_props
        or mapper.base_mapper.eager_defaults is True
        or (mapper.version_id_col is not None and mapper.version_id_generator is False)
    )


def pending_states(session: Session) -> Collection[State]:
    """The objects that are new to the session, as it changes."""
    return session._new


def register_deleted(session: Session, states: set[State]) -> None:
    """Take objects out of the session whose row was deleted."""
    session._remove_newly_deleted(states)


def register_persistent(session: Session, states: set[State]) -> None:
    """Register objects as persistent whose row was inserted or updated."""
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


def polymorphic_attribute(mapper: Mapper[Any]) -> str | None:
    """The attribute that holds the polymorphic identity, where the class has one to set."""
    return mapper._polymorphic_attr_key if mapper._set_polymorphic_identity else None


def inherits_key(mapper: Mapper[Any], column: Any, source: Any) -> bool:
    """Whether a key column of ``table`` takes its value from ``source``, a key column of the
    table it inherits from.
    """
    return any(
        right is column and left is source
        for pairs_of in mapper._table_to_equated.values()
        for _, pairs in pairs_of
        for left, right in pairs
    )


def instances_of(
    session: Session, mapper: Mapper[Any], values: Iterable[dict[str, Any]]
) -> list[Any]:
    """Make persistent instances of attribute values that were just written, their keys among them.

    They become part of the session as flushed objects do, so a rollback expunges them. Attributes
    that have no value are loaded when they are next asked for. ``loaded_as_persistent`` fires;
    ``load`` does not, for nothing was loaded.
    """
    manager = mapper.class_manager
    identity_class = mapper._identity_class
    key_attributes = [prop.key for prop in mapper._identity_key_props]
    loadable = {prop.key for prop in mapper.column_attrs if not prop.deferred}
    identity_map, reference = session.identity_map, session.identity_map._wr
    known = identity_map._dict
    in_transaction = session._autobegin_t()._new
    hash_key = session.hash_key
    loaded = session.dispatch.loaded_as_persistent
    instances = []
    for held in values:
        instance = manager.new_instance()
        state = instance_state(instance)
        instance_dict(instance).update(held)
        state.key = (
            identity_class,
            tuple([held[attribute] for attribute in key_attributes]),
            None,
        )
        state.session_id = hash_key
        state._instance_dict = reference
        state.expired_attributes.update(loadable.difference(held))
        known[state.key] = state
        in_transaction[state] = True
        instances.append(instance)
        if loaded:
            loaded(session, state)
    return instances


def plain_attribute(mapper: Mapper[Any], column: Any) -> str | None:
    """The key of the attribute that holds ``column``, if it is an ordinary one."""
    prop = mapper._columntoproperty.get(column)
    if prop is None or type(mapper.class_manager[prop.key].impl) is not _ScalarAttributeImpl:
        return None
    return str(prop.key)


def is_watched(mapper: Mapper[Any], attribute: str) -> bool:
    """Whether anybody listens to the attribute being set, on the class or one that inherits from
    it.
    """
    for each in mapper.self_and_descendants:
        dispatch = each.class_manager[attribute].impl.dispatch
        if dispatch.set or dispatch._active_history:
            return True
    return False


def had_members(state: State, key: str) -> bool:
    """Whether the relationship of a new object held something before what it holds now."""
    before = state.committed_state.get(key, NO_VALUE)
    return not (before is NO_VALUE or before is None or before is NEVER_SET) and (
        not hasattr(before, "__len__") or len(before) > 0
    )


def declared_sequences(metadata: MetaData) -> list[Sequence_]:
    """Return the sequences that are attached to a metadata, by themselves or through a column."""
    return list(metadata._sequences.values())


def copy_column(column: Column[Any]) -> Column[Any]:
    """Return the column as a new one of no table, to be changed; Alembic copies them so too."""
    return column._copy()
