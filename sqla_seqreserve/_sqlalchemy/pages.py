"""Makes SQLAlchemy send fewer statements for an INSERT of many rows.

Such an INSERT is sent as a whole where SQLAlchemy would make pages of ``VALUES``: on psycopg2, and
on every driver where values come back (RETURNING). SQLAlchemy asks the dialect for the pages, sends
one after the other, and collects what each returns. Here the dialect returns a single page,
:class:`Whole`: the statement of one row with the parameters of all. Events, log, errors and the
result are SQLAlchemy's own. Read in 2.0.10 to 2.1.9.

The rows of ``session.execute(insert(M), rows)`` may be given the same columns before statements are
made of them. SQLAlchemy executes an ORM statement by a class from a registry of its own, by plugin
and kind of statement. Our class is registered in front of it, and only handles the rows of a plain
INSERT. The public ``do_orm_execute`` would also work, but a session with a listener to it takes
another 10 us for each SELECT. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Column, Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm import bulk_persistence as _bulk_persistence
from sqlalchemy.sql import compiler as _compiler
from sqlalchemy.sql.base import CompileState as _CompileState

from . import either
from .collector import collector_paused

_METHOD: Final = "_deliver_insertmanyvalues_batches"
_Page: Final = getattr(_compiler, "_InsertManyValuesBatch", None)
"""One page; before 2.0.10 it had no name, and the rows of a page no certain order."""


FEWEST: Final = 50
"""From this number of rows with returned values on, arrays are faster than pages of ``VALUES``."""


class Whole(list[Any]):
    """The parameters of all rows of an INSERT that would go in pages.

    :param given: the same, as the execution context has them.
    """

    def __init__(self, given: Sequence[Any], context: Any, pages: Callable[[], Iterator[Any]]):
        super().__init__(given)
        self.given = given
        self.context = context
        self.pages = pages

    def send_in_pages(self, cursor: Any) -> int:
        """Send the pages as SQLAlchemy would, and return their number."""
        sent = 0
        for page in self.pages():
            self.context.dialect.do_execute(
                cursor, page.replaced_statement, page.replaced_parameters, self.context
            )
            sent += 1
        return sent

    def collect(self, cursor: Any) -> None:
        """Keep what came back of all rows, which were written in their order, for the result."""
        context = self.context
        if not context.compiled.effective_returning:
            return
        rows = context.fetchall_for_returning(cursor)
        if context.compiled._insertmanyvalues.num_sentinel_columns:
            # An increasing key, by which SQLAlchemy sorts the rows of a page.
            rows = sorted(rows, key=operator.itemgetter(-1))
        context._insertmanyvalues_rows = rows


def hand_over_pages(dialect: Dialect, takes: Callable[[Any], bool]) -> None:
    """Make an INSERT reach ``do_execute`` as a :class:`Whole` if ``takes`` wants it so.

    :param takes: called with the execution context.
    """
    if _Page is None:
        return
    plain = getattr(dialect, _METHOD)

    def deliver(*given: Any) -> Iterator[Any]:
        context = given[-1]
        if not (_keeps_order(context) and takes(context)):
            pages: Iterator[Any] = plain(*given)
            return pages
        whole = Whole(context.parameters, context, lambda: plain(*given))
        return iter(
            (_Page(context.statement, whole, None, whole, (), len(whole), 1, 1, True, False),)
        )

    setattr(dialect, _METHOD, deliver)


def are_all_rows(context: Any, parameters: Any) -> bool:
    """Whether a statement that is about to be sent has the parameters of all rows for which it is
    executed. SQLAlchemy may instead send it in pages, or once per row if it could not match
    returned keys to rows.

    :param parameters: the statement's parameters, as the driver takes them.
    """
    rows = context.compiled_parameters
    return len(rows) == 1 or len(parameters) == len(rows) * len(rows[0]) > 0


def plain_pages(dialect: Dialect) -> Any:
    """The dialect's own method that makes pages."""
    return getattr(type(dialect), _METHOD).__get__(dialect)


def _keeps_order(context: Any) -> bool:
    """Whether only the order of the rows shows which returned row belongs to which parameters:
    SQLAlchemy does not look for its own sentinel values in them.
    """
    values = context.compiled._insertmanyvalues
    return not values.num_sentinel_columns or bool(values.implicit_sentinel)


# The rows of insert(M)

Rows: TypeAlias = Sequence[dict[str, Any]]


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


_INSERT: Final = ("orm", "insert")
_OPTIONS: Final = "_sa_orm_insert_options"
_TRANSLATE: Final = "schema_translate_map"

_BulkORMInsert: Any = either(_bulk_persistence, "BulkORMInsert")


def make_rows_alike(alike: Alike, is_ours: Callable[[Connection], bool]) -> None:
    """Call ``alike`` for the rows of each plain INSERT of a mapped class.

    :param is_ours: whether a statement is executed on a connection of ours.
    """
    plain: Any = _CompileState.plugins[_INSERT]
    if not issubclass(plain, _AskingInsert):
        asking: Any = type(plain.__name__, (_AskingInsert, plain), {"__module__": plain.__module__})
        _CompileState.plugins[_INSERT] = asking
    _AskingInsert.alike = staticmethod(alike)
    _AskingInsert.is_ours = staticmethod(is_ours)


class _AskingInsert:
    """A base class that is put before SQLAlchemy's own class."""

    alike: Alike
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
        execute: Any = super().orm_execute_statement  # type: ignore[misc]  # of the other base
        if type(params) is not list or not cls.is_ours(conn):
            return execute(session, statement, params, execution_options, bind_arguments, conn)
        with collector_paused(len(params)):
            return cls._execute_many(
                execute, session, statement, params, execution_options, bind_arguments, conn
            )

    @classmethod
    def _execute_many(
        cls,
        execute: Any,
        session: Session,
        statement: Any,
        params: Any,
        execution_options: Any,
        bind_arguments: Any,
        conn: Connection,
    ) -> Any:
        options = execution_options.get(_OPTIONS)
        if (
            options is not None
            and _is_plain(statement, options)
            # The table that it goes to by a map of its own is not that of the connection.
            and _TRANSLATE not in execution_options
            and _TRANSLATE not in statement.get_execution_options()
        ):
            returns = bool(statement._returning)
            rows = cls.alike(session, conn, options._subject_mapper, params, returns=returns)
            if rows is not None:
                given = execution_options.union({_OPTIONS: options + {"_render_nulls": True}})
                try:
                    return execute(session, statement, rows, given, bind_arguments, conn)
                except StatementError as error:
                    if isinstance(error, DBAPIError):
                        raise
                # A type refused a value, and nothing was sent. The rows before it must still be
                # written.
        return execute(session, statement, params, execution_options, bind_arguments, conn)


def _is_plain(statement: Any, options: Any) -> bool:
    """Whether an INSERT has nothing but what its rows give, NULL left out, so that a row, and what
    comes back of it, does not depend on what else is in its statement.
    """
    return (
        options._dml_strategy == "bulk"
        and not options._render_nulls
        and statement._values is None
        and not statement._multi_values
        and statement.select is None
        and statement._post_values_clause is None
        and not statement._independent_ctes
        and all(isinstance(each, Column | Table) for each in statement._returning)
    )
