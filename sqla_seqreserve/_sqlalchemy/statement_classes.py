"""The classes that execute a session's INSERT or UPDATE of a mapped class.

SQLAlchemy takes the class from a registry of its own, by plugin and kind of statement. A class of
ours is put before it and handles the statements that it can execute better. The public
``do_orm_execute`` would also work, but a session with a listener to it takes another 10 us for each
SELECT. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.base import CompileState as _CompileState

from .collector import collector_paused
from .mapping import tables_in_order, writes_to

Rows: TypeAlias = Sequence[dict[str, Any]]

Execute: TypeAlias = Callable[..., Any]

_FEWEST: Final = 20
"""For fewer rows, collecting them quickly saves nothing."""


class Call(NamedTuple):
    """A call of SQLAlchemy's ``orm_execute_statement()`` for a list of rows."""

    session: Session
    statement: Any
    rows: Rows
    execution_options: Any
    bind_arguments: Any
    connection: Connection


class OfRows:
    """A base of the classes that are put before SQLAlchemy's own. A list of rows on a connection of
    ours is executed by :meth:`execute_many`, everything else by SQLAlchemy.
    """

    is_ours: Callable[[Connection], bool]

    @classmethod
    def orm_execute_statement(
        cls,
        session: Session,
        statement: Any,
        params: Any,
        execution_options: Any,
        bind_arguments: Any,
        conn: Connection,
    ) -> Any:
        execute: Execute = super().orm_execute_statement  # type: ignore[misc]  # of the other base
        if type(params) is not list or not cls.is_ours(conn):
            return execute(session, statement, params, execution_options, bind_arguments, conn)
        with collector_paused(len(params)):
            call = Call(session, statement, params, execution_options, bind_arguments, conn)
            return cls.execute_many(execute, call)

    @classmethod
    def execute_many(cls, execute: Execute, call: Call) -> Any:
        """Execute a statement for a list of rows.

        :param execute: executes it as SQLAlchemy does.
        """
        raise NotImplementedError


def put_before(
    kind: Literal["insert", "update"], ours: type[OfRows], is_ours: Callable[[Connection], bool]
) -> None:
    """Let statements of a kind be executed by our class, once. SQLAlchemy's own becomes its other
    base.

    :param is_ours: whether a statement is executed on a connection of ours.
    """
    ours.is_ours = staticmethod(is_ours)
    plain: Any = _CompileState.plugins["orm", kind]
    if not issubclass(plain, ours):
        both = type(plain.__name__, (ours, plain), {"__module__": plain.__module__})
        _CompileState.plugins["orm", kind] = both


def only_table(mapper: Mapper[Any]) -> Table | None:
    """Return the table that has all of an object's columns; ``None`` if there are several, or if
    the class counts versions.
    """
    tables = [table for table, _ in tables_in_order(mapper.base_mapper) if writes_to(mapper, table)]
    return tables[0] if len(tables) == 1 and mapper.version_id_col is None else None


def are_uniform(rows: Rows) -> bool:
    """Whether these are many rows, all of them plain dicts with the same keys."""
    if len(rows) < _FEWEST or set(map(type, rows)) != {dict}:
        return False
    return all(map(rows[0].keys().__eq__, map(dict.keys, rows)))
