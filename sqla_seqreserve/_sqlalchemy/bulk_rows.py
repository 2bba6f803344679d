"""The rows of ``session.execute(insert(M), rows)``, before SQLAlchemy makes statements of them.

An ORM statement is executed by a class that SQLAlchemy keeps in a registry of its own, by plugin
and kind of statement. Ours stands there before it, and does nothing but ask about the rows of a
plain INSERT. The public ``do_orm_execute`` would do: but a session that has a listener to it takes
another 10 us for each of its SELECTs. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import bulk_persistence as _bulk_persistence
from sqlalchemy.sql.base import CompileState as _CompileState

from . import either

Rows: TypeAlias = Sequence[dict[str, Any]]


class Alike(Protocol):
    """Is asked for rows that all give the same columns, NULL included; ``None``: as they are."""

    def __call__(
        self, connection: Connection, mapper: Mapper[Any], rows: Rows, *, returns: bool
    ) -> Rows | None: ...


_INSERT: Final = ("orm", "insert")
_OPTIONS: Final = "_sa_orm_insert_options"

_BulkORMInsert: Any = either(_bulk_persistence, "BulkORMInsert")


def make_rows_alike(alike: Alike) -> None:
    """Have ``alike`` asked about the rows of each plain INSERT of a mapped class."""
    plain: Any = _CompileState.plugins[_INSERT]
    if not issubclass(plain, _AskingInsert):
        asking: Any = type(plain.__name__, (_AskingInsert, plain), {"__module__": plain.__module__})
        _CompileState.plugins[_INSERT] = asking
    _AskingInsert.alike = staticmethod(alike)


class _AskingInsert:
    """What is put before SQLAlchemy's own class."""

    alike: Alike

    @classmethod
    def orm_execute_statement(
        cls,
        session: Any,
        statement: Any,
        params: Any,
        execution_options: Any,
        bind_arguments: Any,
        conn: Connection,
    ) -> Any:
        options = execution_options.get(_OPTIONS)
        if type(params) is list and options is not None and _is_plain(statement, options):
            returns = bool(statement._returning)
            rows = cls.alike(conn, options._subject_mapper, params, returns=returns)
            if rows is not None:
                params = rows
                options += {"_render_nulls": True}
                execution_options = execution_options.union({_OPTIONS: options})
        execute: Any = super().orm_execute_statement  # type: ignore[misc]  # of the other base
        return execute(session, statement, params, execution_options, bind_arguments, conn)


def _is_plain(statement: Any, options: Any) -> bool:
    """Whether an INSERT has nothing but what its rows give, NULL left out, so that a row does not
    depend on what else is in its statement.
    """
    return (
        options._dml_strategy == "bulk"
        and not options._render_nulls
        and statement._values is None
        and not statement._multi_values
        and statement.select is None
        and statement._post_values_clause is None
        and not statement._independent_ctes
    )
