"""The tables, columns, types and listeners that a mapper knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnDefault, Dialect, MetaData, Table, bindparam
from sqlalchemy import Sequence as Sequence_
from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, registry
from sqlalchemy.orm import attributes as _attributes
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeEngine

from . import either

_ScalarAttributeImpl: type[Any] = either(_attributes, "ScalarAttributeImpl")


_KEPT: Final = ("sqla_seqreserve",)


def kept_with(mapper: Mapper[Any]) -> dict[Any, Any]:
    """Return the cache of what is computed from a mapper; it is discarded with the mapper, and when
    the mapping changes.
    """
    kept: dict[Any, Any] | None = mapper._memoized_values.get(_KEPT)  # type: ignore[assignment]  # what is memoized
    return mapper._memo(_KEPT, dict) if kept is None else kept


def key_columns(mapper: Mapper[Any], table: Table) -> Sequence[ColumnElement[Any]]:
    """The columns of ``table`` that identify a row of ``mapper``, which need not be the table's
    own primary key.
    """
    return list(mapper._pks_by_table[table])


def insert_orm_defaults(mapper: Mapper[Any], table: Table) -> Mapping[str, Any]:
    """Return attribute key -> value of the ORM-level defaults that INSERT delivers (2.1 only;
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
    """Whether the type wraps its values in SQL, which COPY cannot do. A type that returns its
    argument unchanged wraps nothing: it may wrap only under some of its settings.
    """
    if not type_.dialect_impl(dialect)._has_bind_expression:
        return bool(type_._has_bind_expression)
    parameter = bindparam("value", type_=type_)
    return type_.dialect_impl(dialect).bind_expression(parameter) is not parameter


def of_dialect(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """The type as the dialect takes it: of one with variants, the dialect's."""
    return type_.dialect_impl(dialect)


def hands_on_keys(mapper: Mapper[Any], table: Table) -> bool:
    """Whether inserting into ``table`` must copy a key to an attribute of another name."""
    return any(
        parent._columntoproperty[left].key != parent._columntoproperty[right].key
        for parent, pairs in mapper._table_to_equated[table]
        for left, right in pairs
    )


def fills_another_table(mapper: Mapper[Any], table: Table) -> bool:
    """Whether a default of ``table`` sets an attribute that also stands for a column of another
    table of the mapper, whose row gets the same value.
    """
    if len(mapper.tables) == 1:
        return False
    others = [columns for other, columns in mapper._propkey_to_col.items() if other is not table]
    return any(
        not column.primary_key
        and (column.default is not None or column.server_default is not None)
        and any(key in columns for columns in others)
        for key, column in mapper._propkey_to_col[table].items()
    )


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


def is_attribute(mapper: Mapper[Any], key: str) -> bool:
    """Whether a class has an attribute of that name, be it a composite, a synonym or a hybrid."""
    return key in mapper.all_orm_descriptors


def server_default_columns(mapper: Mapper[Any], table: Table) -> Sequence[Any]:
    """The columns that SQLAlchemy reads back after an INSERT, because the database or an SQL
    expression may fill them, in the table's order.

    SQLAlchemy asks the class for which the table was mapped. If that class has no such column,
    ``return_defaults()`` is called without arguments and returns every column; then the columns of
    the inheriting class count too.
    """
    owner = mapper.base_mapper._sorted_tables.get(table, mapper)
    columns = owner._server_default_cols[table] or mapper._server_default_cols[table]
    return [column for column in table.columns if column in columns]


def returns_every_column(mapper: Mapper[Any], table: Table) -> bool:
    """Whether an INSERT with RETURNING returns every column that it was not given: the class for
    which the table was mapped has no server default, so ``return_defaults()`` is called without
    arguments.
    """
    owner = mapper.base_mapper._sorted_tables.get(table, mapper)
    return not owner._server_default_cols[table]


def declares_value(column: Any) -> bool:
    """Whether the model says where the value of a key column comes from if it is not given. Without
    that, SQLAlchemy cannot match rows and keys in an INSERT of several rows.
    """
    return (
        column.default is not None
        or column.server_default is not None
        or column is column.table._autoincrement_column
    )


def is_sentinel(column: Any) -> bool:
    """Whether the column only serves SQLAlchemy's own multi-row INSERT (``insert_sentinel()``)."""
    # Sentinels are of 2.0.10 and later.
    return bool(getattr(column.default, "is_sentinel", False))


def sentinel_column(table: Table) -> Column[Any] | None:
    """The column of a table that :func:`is_sentinel` describes; there is at most one."""
    return next(filter(is_sentinel, table.columns), None)


def sentinel_of_several(base_mapper: Mapper[Any]) -> Column[Any] | None:
    """The sentinel column of a hierarchy of several classes, whose rows SQLAlchemy counts
    together.
    """
    kept = kept_with(base_mapper)
    if sentinel_of_several not in kept:
        found = [sentinel_column(table) for table in base_mapper._sorted_tables]
        is_one = len(list(base_mapper.self_and_descendants)) == 1
        kept[sentinel_of_several] = (
            None if is_one else next((c for c in found if c is not None), None)
        )
    column: Column[Any] | None = kept[sentinel_of_several]
    return column


def returns_keys_in_order(table: Table, dialect: Dialect) -> bool:
    """Whether SQLAlchemy's INSERT of several rows may return their keys in the order of the
    rows.
    """
    return bool(
        table.implicit_returning
        and dialect.use_insertmanyvalues
        and dialect.insert_executemany_returning_sort_by_parameter_order
    )


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


def registry_of(base: type[Any]) -> registry | None:
    """The registry of an abstract base, declarative or SQLModel's; ``None`` if it is none."""
    owners = (getattr(base, "registry", None), getattr(base, "_sa_registry", None))
    return next((owner for owner in owners if isinstance(owner, registry)), None)


def all_mappers() -> list[Mapper[Any]]:
    """Every mapper of the process, by class name."""
    from sqlalchemy.orm import mapperlib

    # registry.mappers raises while a class is not mapped, as an AbstractConcreteBase is before
    # mappers are configured.
    mappers = {
        manager.mapper
        for classes in mapperlib._all_registries()
        for manager in list(classes._managers)
        if manager.is_mapped
    }
    return sorted(mappers, key=lambda mapper: (mapper.class_.__name__, mapper.class_.__module__))


def watches_insert(mapper: Mapper[Any]) -> bool:
    """Whether a listener exists for objects of ``mapper`` that are about to be inserted."""
    return bool(mapper.dispatch.before_insert)


def watches_update(mapper: Mapper[Any]) -> bool:
    """Whether a listener exists for objects of ``mapper`` that are about to be updated."""
    return bool(mapper.dispatch.before_update)


def watches_delete(mapper: Mapper[Any]) -> bool:
    """Whether a listener exists for objects of ``mapper`` that are about to be deleted."""
    return bool(mapper.dispatch.before_delete)


def watches_deleted(mapper: Mapper[Any]) -> bool:
    """Whether a listener exists for objects of ``mapper`` that were deleted."""
    return bool(mapper.dispatch.after_delete)


def has_work_after_update(mapper: Mapper[Any]) -> bool:
    """Whether SQLAlchemy's last pass over changed objects of ``mapper`` does anything."""
    return bool(mapper.dispatch.after_update or _has_work_after(mapper))


def has_work_after_insert(mapper: Mapper[Any]) -> bool:
    """Whether SQLAlchemy's last pass over inserted objects of ``mapper`` does anything."""
    return bool(mapper.dispatch.after_insert or _has_work_after(mapper))


def _has_work_after(mapper: Mapper[Any]) -> bool:
    return bool(
        mapper._readonly_props
        or mapper.base_mapper.eager_defaults is True
        or (mapper.version_id_col is not None and mapper.version_id_generator is False)
    )


_PARENTS: Final = "relationships that hand on a key"


def holds_children(mapper: Mapper[Any], states: Iterable[InstanceState[Any]]) -> bool:
    """Whether one of these new objects of ``mapper`` holds objects of a one-to-many relationship,
    which are checked, and get its key, after its INSERT.
    """
    kept = kept_with(mapper)
    keys: list[str] | None = kept.get(_PARENTS)
    if keys is None:
        keys = kept[_PARENTS] = [
            prop.key
            for prop in mapper.relationships
            if prop.direction is RelationshipDirection.ONETOMANY and not prop.viewonly
        ]
    return bool(keys) and any(
        "_pending_mutations" in state.__dict__ or any(_is_held(state.dict.get(key)) for key in keys)
        for state in states
    )


def _is_held(value: Any) -> bool:
    # An object of the application may count as false.
    return value is not None and (bool(value) or not isinstance(value, list | set | dict))


def polymorphic_attribute(mapper: Mapper[Any]) -> str | None:
    """Return the attribute that holds the polymorphic identity, if the class must set one."""
    return mapper._polymorphic_attr_key if mapper._set_polymorphic_identity else None


def renders_none(mapper: Mapper[Any], column: Any) -> bool:
    """Whether ``None`` is a value of the column's type, such as JSON's null, and not NULL."""
    return column in mapper._insert_cols_evaluating_none[column.table]


def is_filled_by_mapper(mapper: Mapper[Any], column: Any) -> bool:
    """Whether SQLAlchemy gives the column a value of its own: a version, or the name of a class."""
    return column is mapper.version_id_col or column is mapper.polymorphic_on


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


def declared_sequences(metadata: MetaData) -> list[Sequence_]:
    """Return the sequences that are attached to a metadata, by themselves or through a column."""
    return list(metadata._sequences.values())


def copy_column(column: Column[Any]) -> Column[Any]:
    """Return the column as a new one of no table, to be changed; Alembic copies them so too."""
    return column._copy()


def insert_cast(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """The type as SQL to which INSERT casts a parameter of it, where it does: always for some types
    of a driver, for all where it inserts several rows at once that come back.

    :raises sqlalchemy.exc.CompileError: the type has no name.
    """
    compiler: Any = dialect.statement_compiler(dialect, None)
    found: str = compiler.render_bind_cast(type_, type_._unwrapped_dialect_impl(dialect), "")
    return found.removeprefix("::")


def casts_each(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether every INSERT casts each parameter of the type, whatever the INSERT's form and the
    other values of the column.
    """
    if not dialect._bind_typing_render_casts:
        return False
    return bool(type_._unwrapped_dialect_impl(dialect).render_bind_cast)


def plain_callable(default: Any) -> Callable[[], Any] | None:
    """The function behind a Python-side default that takes no context, ``None`` where there is
    none. SQLAlchemy wraps it in one that takes a context and passes it over.
    """
    if default is None or not default.is_callable:
        return None
    code = getattr(default.arg, "__code__", None)
    if code is None or code.co_filename != ColumnDefault.__init__.__code__.co_filename:
        return None
    call: Callable[[], Any] | None = getattr(default.arg, "__wrapped__", None)
    return call
