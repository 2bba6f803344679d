"""Executes ``session.execute(insert(M), rows)`` with fewer statements and less work for each row.

The rows may be given the same columns before statements are made of them. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from types import NoneType
from typing import Any, Final, Protocol

from sqlalchemy import Column, Connection, Table
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Mapper, Session

from .persistence import IN_ORDER, emit_insert_of_rows
from .statement_classes import Call, Execute, OfRows, Rows, are_uniform, only_table, put_before


class Alike(Protocol):
    """Called for rows that should all give the same columns, NULL included; returns ``None`` to
    leave them as they are.
    """

    def __call__(
        self,
        session: Session,
        connection: Connection,
        mapper: Mapper[Any],
        rows: Rows,
        *,
        returns: bool,
    ) -> Rows | None: ...


_OPTIONS: Final = "_sa_orm_insert_options"
_TRANSLATE: Final = "schema_translate_map"


def make_rows_alike(alike: Alike, is_ours: Callable[[Connection], bool]) -> None:
    """Call ``alike`` for the rows of each plain INSERT of a mapped class.

    :param is_ours: whether a statement is executed on a connection of ours.
    """
    _AskingInsert.alike = staticmethod(alike)
    put_before("insert", _AskingInsert, is_ours)


class _AskingInsert(OfRows):
    """Executes an INSERT of a mapped class."""

    alike: Alike

    @classmethod
    def execute_many(cls, execute: Execute, call: Call) -> Any:
        session, statement, given, execution_options, bind_arguments, connection = call
        options = execution_options.get(_OPTIONS)
        if options is None or not _is_plain(statement, options):
            return execute(*call)

        def run(rows: Rows, options: Any) -> Any:
            with_options = execution_options.union({_OPTIONS: options})
            table = _table_of(session, options, rows)
            commands = None if table is None else _uniform_commands(session, options, table, rows)
            if table is None or commands is None:
                return execute(session, statement, rows, with_options, bind_arguments, connection)
            mapper = options._subject_mapper
            result = emit_insert_of_rows(mapper, table, commands, statement, with_options)
            if not statement._returning:
                return result
            returning: Execute = cls._return_orm_returning  # type: ignore[attr-defined]  # of the other base
            return returning(session, statement, rows, with_options, bind_arguments, result)

        if (
            not options._render_nulls
            # The table that it goes to by a map of its own is not that of the connection.
            and _TRANSLATE not in execution_options
            and _TRANSLATE not in statement.get_execution_options()
        ):
            returns = bool(statement._returning)
            rows = cls.alike(session, connection, options._subject_mapper, given, returns=returns)
            if rows is not None:
                try:
                    return run(list(rows), options + {"_render_nulls": True})
                except StatementError as error:
                    if isinstance(error, DBAPIError):
                        raise
                # A type refused a value, and nothing was sent. The rows before it must still be
                # written.
        return run(given, options)


def _table_of(session: Session, options: Any, rows: Rows) -> Table | None:
    """Return the table that the rows are mapped to, if it is one and SQLAlchemy would do nothing
    with the rows but insert them.
    """
    if (
        not IN_ORDER
        or not are_uniform(rows)
        or session.connection_callable is not None
        or getattr(options, "_populate_existing", False)
        or options._return_defaults
    ):
        return None
    return only_table(options._subject_mapper)


def _uniform_commands(
    session: Session, options: Any, table: Table, rows: Rows
) -> Iterator[tuple[Any, ...]] | None:
    """Collect the rows of an INSERT as SQLAlchemy's ``_bulk_insert`` and
    ``_collect_insert_commands`` do, but faster: all give the same columns, so there is nothing to
    find out for each of them. Return ``None`` for other rows.
    """
    mapper: Mapper[Any] = options._subject_mapper
    columns = mapper._propkey_to_col[table]
    given = rows[0].keys()
    if not given or not given <= columns.keys():
        return None
    if not options._render_nulls:
        written = mapper._insert_cols_evaluating_none[table]
        left_out = [name for name in given if columns[name] not in written]
        if any(NoneType in set(map(type, map(itemgetter(name), rows))) for name in left_out):
            return None
    assert session._transaction is not None
    connection = session._transaction.connection(mapper.base_mapper)
    names = [(columns[name].key, name) for name in given]
    parameters: Iterator[dict[str, Any]] = map(dict.copy, rows)
    if any(key != name for key, name in names):
        parameters = ({key: row[name] for key, name in names} for row in rows)
    if mapper._set_polymorphic_identity:
        identity: dict[Any, Any] = {mapper._polymorphic_attr_key: mapper.polymorphic_identity}
        parameters = ({**identity, **each} for each in parameters)
    no_expressions: dict[Any, Any] = {}
    return (
        (None, row, each, mapper, connection, no_expressions, True, True)
        for row, each in zip(rows, parameters, strict=True)
    )


def _is_plain(statement: Any, options: Any) -> bool:
    """Whether an INSERT has nothing but what its rows give, NULL left out, so that a row, and what
    comes back of it, does not depend on what else is in its statement.
    """
    return (
        options._dml_strategy == "bulk"
        and statement._values is None
        and not statement._multi_values
        and statement.select is None
        and statement._post_values_clause is None
        and not statement._independent_ctes
        and all(isinstance(each, Column | Table) for each in statement._returning)
    )
