"""The steps of an UPDATE, of a DELETE and of link rows, and SQLAlchemy's messages for rows that
were not found.

Read in SQLAlchemy 2.0.58 and 2.1.9: ``_emit_update_statements``, ``_emit_delete_statements`` and
``_delete_obj`` of ``persistence``, ``_run_crud`` of a many-to-many relationship's processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Delete, Insert, Table, Update, and_, bindparam
from sqlalchemy.engine.result import null_result as _null_result
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import persistence as _persistence
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util import warn

from . import either
from .engine import StatementContext
from .persistence import PostfetchResult, leave_as_written
from .unit_of_work import UOWTransaction

delete_obj: Callable[..., None] = either(_persistence, "delete_obj")

organize_states_for_delete: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._organize_states_for_delete
)

_emit_update_statements: Callable[..., Any] = _persistence._emit_update_statements

_emit_delete_statements: Callable[..., None] = _persistence._emit_delete_statements


def notify_deleted(records: Sequence[tuple[Any, ...]]) -> None:
    """Notify the listeners of deleted objects."""
    for state, _, mapper, connection, _ in records:
        mapper.dispatch.after_delete(mapper, connection, state)


ROWS_COUNTED: Final = "sqla_seqreserve_rows_counted"
"""An execution option: the rows that each set of parameters matches must be counted, even if the
driver's ``executemany()`` does not count them.
"""


def emit_update_statements(
    base_mapper: Mapper[Any],
    uow: UOWTransaction,
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[tuple[Any, ...]],
    *,
    together: bool,
) -> None:
    """Send UPDATEs of rows of a kind as SQLAlchemy does; afterwards, process an object only if the
    UPDATE changes something in it.

    :param together: whether rows whose version is compared are executed together if no values come
        back; then only the sum of their counts is checked, where SQLAlchemy checks each.
    """
    connection, _, has_expressions, has_defaults, has_keys = update_kind(commands[0])
    counts = has_version(mapper, table)
    if (
        has_expressions
        or not has_keys
        or len(commands) < 2
        or (counts and not together)
        or updated_columns(mapper, table, has_defaults=has_defaults)
    ):
        _emit_update_statements(base_mapper, uow, mapper, table, commands)
        return
    options: dict[str, Any] = {"compiled_cache": base_mapper._compiled_cache}
    if counts:
        options[ROWS_COUNTED] = True
    result: Any = connection.execute(
        update_statement(base_mapper, mapper, table, ()),
        [command[2] for command in commands],
        execution_options=options,
    )
    compiled = result.context.compiled
    if (
        counts
        or compiled.prefetch
        or compiled.postfetch
        or any(found._table_to_equated[table] for found in {command[3] for command in commands})
    ):
        for position, (state, row, _, found, _, expressions, *_) in enumerate(commands):
            # Each has a version of its own.
            given = result.context.compiled_parameters[position if counts else 0]
            leave_as_written(found, uow, table, state, row, result, given, expressions, True, None)
    if counts or connection.dialect.supports_sane_multi_rowcount:
        check_updated(table, len(commands), result.rowcount)


def emit_update_of_rows(
    mapper: Mapper[Any], table: Table, commands: Iterator[tuple[Any, ...]], statement: Update
) -> Any:
    """Execute an application's ``update()`` for rows of a class, as SQLAlchemy does; return its
    result.
    """
    base_mapper = mapper.base_mapper
    _emit_update_statements(
        base_mapper,
        None,
        base_mapper._sorted_tables[table],
        table,
        commands,
        bookkeeping=False,
        use_orm_update_stmt=statement,
    )
    return _null_result()


def update_kind(command: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the key by which SQLAlchemy groups changed rows: the connection, the columns given,
    whether there are SQL expressions, and whether defaults and keys need not come back.
    """
    return command[4], set(command[2]), bool(command[5]), command[6], command[7]


def updated_columns(mapper: Mapper[Any], table: Table, *, has_defaults: bool) -> tuple[Any, ...]:
    """Return the columns other than keys that an UPDATE has to return (RETURNING)."""
    returned: list[Any] = []
    if mapper.base_mapper.eager_defaults is True and not has_defaults and table.implicit_returning:
        returned += mapper._server_onupdate_default_cols[table]
    if mapper._version_id_has_server_side_value:
        returned.append(mapper.version_id_col)
    return tuple(returned)


def has_version(mapper: Mapper[Any], table: Table) -> bool:
    """Whether an UPDATE or DELETE in the table finds its row by key and version."""
    version = mapper.version_id_col
    return version is not None and version in mapper._cols_by_table[table]


def update_statement(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, returned: tuple[Any, ...]
) -> Update:
    """Return the UPDATE that SQLAlchemy makes for objects of a class and that returns these
    columns; made once.
    """

    def make() -> Update:
        found = _identifying(mapper, table)
        statement = table.update().where(
            and_(*(column == bindparam(column._label, type_=column.type) for column in found))
        )
        return statement.return_defaults(*returned) if returned else statement

    made: Update = base_mapper._memo(("sqla_seqreserve update", table, returned), make)
    return made


def delete_statement(base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table) -> Delete:
    """Return the DELETE that SQLAlchemy makes for objects of a class; made once."""

    def make() -> Delete:
        found = _identifying(mapper, table)
        return table.delete().where(
            and_(*(column == bindparam(column.key, type_=column.type) for column in found))
        )

    made: Delete = base_mapper._memo(("sqla_seqreserve delete", table), make)
    return made


def _identifying(mapper: Mapper[Any], table: Table) -> list[Any]:
    columns: list[Any] = list(mapper._pks_by_table[table])
    if has_version(mapper, table):
        columns.append(mapper.version_id_col)
    return columns


def key_parameters(mapper: Mapper[Any], table: Table) -> list[tuple[Any, str]]:
    """Return the columns by which an UPDATE finds its row, each with the key of its parameter."""
    return [(column, str(column._label)) for column in _identifying(mapper, table)]


def emit_delete_statements(
    base_mapper: Mapper[Any],
    uow: UOWTransaction,
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[tuple[dict[str, Any], Connection]],
) -> None:
    """Send DELETEs as SQLAlchemy does."""
    _emit_delete_statements(base_mapper, uow, mapper, table, commands)


def postfetch_update(
    uow: UOWTransaction,
    table: Table,
    command: tuple[Any, ...],
    update: StatementContext,
    returned: Sequence[Any] | None,
) -> None:
    """Leave a changed object as SQLAlchemy leaves it. For rows that are executed together,
    SQLAlchemy takes the values that Python filled in from the first row, and so do we.

    :param returned: the values of the columns that came back, in their order.
    """
    state, row, _, mapper, _, expressions, *_ = command
    leave_as_written(
        mapper,
        uow,
        table,
        state,
        row,
        PostfetchResult(update.context),
        update.compiled_parameters(0),
        expressions,
        True,
        returned,
    )


def check_updated(table: Table, expected: int, found: int) -> None:
    """Raise what SQLAlchemy raises if changed rows were not all found."""
    if found != expected:
        raise StaleDataError(
            f"UPDATE statement on table '{table.description}' expected to "
            f"update {expected} row(s); {found} were matched."
        )


def check_deleted(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, expected: int, found: int
) -> None:
    """Raise what SQLAlchemy raises, or warn as it warns, if deleted rows were not all found."""
    if not base_mapper.confirm_deleted_rows or expected == found:
        return
    said = (
        f"DELETE statement on table '{table.description}' expected to "
        f"delete {expected} row(s); {found} were matched.  Please set "
        "confirm_deleted_rows=False within the mapper "
        "configuration to prevent this warning."
    )
    if has_version(mapper, table):
        raise StaleDataError(said)
    warn(said)


LinkKind: TypeAlias = Literal["delete", "update", "insert"]


def link_statement(
    secondary: Table, kind: LinkKind, row: dict[str, Any]
) -> Insert | Update | Delete:
    """The statement that SQLAlchemy makes of link rows that have these columns."""
    if kind == "insert":
        return secondary.insert()
    prefix = "old_" if kind == "update" else ""
    found = and_(
        *(
            column == bindparam(prefix + column.key, type_=column.type)
            for column in secondary.c
            if column.key in row
        )
    )
    return secondary.delete().where(found) if kind == "delete" else secondary.update().where(found)


def check_links(secondary: Table, kind: LinkKind, expected: int, found: int) -> None:
    """Raise what SQLAlchemy raises if link rows were not all found."""
    if kind != "insert" and found != expected:
        raise StaleDataError(
            f"{kind.upper()} statement on table '{secondary.description}' expected to {kind} "
            f"{expected} row(s); Only {found} were matched."
        )
