"""The layer below ``Connection.execute()``: contexts of statements, their events, and the driver.

``Connection`` runs a statement in one go: compile, make a context, send, read. To send several in
one message, we make the contexts as it does, and run the steps around the sending ourselves: the
cursor events, the echo log, and the handling of errors.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from inspect import signature
from types import NoneType
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, Delete, Insert, Update, __version__
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import util as _sql_util

from .listeners import interference_on
from .made_values import MadeValues, compiled_cache
from .pages import plain_pages

_IS_2_0: Final = __version__.startswith("2.0.")
"""Whether ``handle_error`` is not called for an exception raised in ``before_cursor_execute``."""


def driver_cursor(cursor: DBAPICursor) -> Any:
    """The driver's own cursor below the one that SQLAlchemy adapts for async drivers."""
    return getattr(cursor, "_cursor", cursor)


def driver_connection(connection: Connection) -> Any:
    """The driver's own connection, also of one that was detached from the pool."""
    return connection.dialect.get_driver_connection(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # it is connected


def sees_the_present(connection: Connection) -> bool:
    """Whether each statement of the connection's transactions sees everything committed before that
    statement, as far as its settings show. No I/O happens.
    """
    level = _isolation_level(connection)
    return level is None or level.upper().replace("_", " ").startswith("READ")


def autocommits(connection: Connection) -> bool:
    """Whether each statement is a transaction of its own, as far as the connection's settings
    show.
    """
    return (_isolation_level(connection) or "").upper() == "AUTOCOMMIT"


def _isolation_level(connection: Connection) -> str | None:
    options = connection.get_execution_options()
    level: str | None = (
        options.get("isolation_level")
        or connection.dialect._on_connect_isolation_level
        or connection.default_isolation_level
    )
    return level


def sends_as_it_is(connection: Connection) -> bool:
    """Whether no listener or dialect can replace a statement, or send it in another way."""
    options = connection.get_execution_options()
    if options.get("stream_results") or options.get("yield_per"):
        return False
    return interference_on(connection) is None


class StatementContext:
    """One INSERT, UPDATE or DELETE that is ready to be sent: SQLAlchemy's execution context."""

    __slots__ = ("_connection", "context")

    def __init__(self, connection: Connection, context: Any) -> None:
        self._connection = connection
        self.context = context

    @property
    def returning(self) -> Sequence[Any]:
        """The columns that come back."""
        columns: Sequence[Any] = self.context.compiled.effective_returning
        return columns

    def compiled_parameters(self, row: int) -> Mapping[str, Any]:
        """Return the parameters of one row by column key, with defaults filled in, before
        binding.
        """
        parameters: Mapping[str, Any] = self.context.compiled_parameters[row]
        return parameters

    def processors(self, oids: Sequence[int]) -> list[Callable[[Any], Any] | None]:
        """Return the functions that turn each returned column into the attribute's value."""
        return [
            self.context.get_result_processor(column.type, column.name, oid)
            # Further columns tell SQLAlchemy which returned row belongs to which object.
            for column, oid in zip(self.returning, oids, strict=False)
        ]

    def messages(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """The texts to send, each with the parameters of its rows: one text for all rows; one for
        each where values come back; or, where the dialect writes many rows as one ``VALUES``, one a
        page of rows.
        """
        context = self.context
        if context.executemany and self.returning:
            # A page of one row: each brings its own values back, and is cast as SQLAlchemy casts
            # several. But what a column of VALUES is depends on all of its values.
            yield from _pages(
                context.compiled._deliver_insertmanyvalues_batches,
                statement=context.statement,
                parameters=context.parameters,
                compiled_parameters=context.compiled_parameters,
                generic_setinputsizes=None,
                batch_size=self._page_size() if self._is_mixed() else 1,
                sort_by_parameter_order=True,
                schema_translate_map=None,
            )
            return
        if not (
            context.executemany
            and context.isinsert
            and context.dialect.use_insertmanyvalues_wo_returning
        ):
            yield context.statement, context.parameters
            return
        # As ``Connection._exec_insertmany_context`` does.
        yield from _pages(
            plain_pages(context.dialect),
            connection=self._connection,
            cursor=context.cursor,
            statement=context.statement,
            parameters=context.parameters,
            generic_setinputsizes=None,
            context=context,
        )

    def _is_mixed(self) -> bool:
        """Whether a column has values of several types, without a cast of their own, in a statement
        that takes its rows from one ``VALUES`` (and sorts the returned rows by its last column).
        """
        context = self.context
        values = context.compiled._insertmanyvalues
        # Before 2.0.10 SQLAlchemy sorted nothing: each row is in the INSERT's own VALUES, where
        # PostgreSQL converts every value to its column's type by itself.
        if not getattr(values, "implicit_sentinel", False):
            return False
        escaped = context.compiled.escaped_bind_names or {}
        return any(
            _is_of_several(row[escaped.get(name, name)] for row in context.parameters)
            for _, _, rendered, names in values.insert_crud_params
            if "::" not in rendered
            for name in names
        )

    def _page_size(self) -> int:
        """How many rows SQLAlchemy puts into one statement."""
        size: int = self.context.execution_options.get(
            "insertmanyvalues_page_size", self.context.dialect.insertmanyvalues_page_size
        )
        return size

    def begin(self) -> None:
        """Notify listeners and the log of the statement, before it is sent."""
        try:
            self._begin()
        except BaseException as error:
            if _IS_2_0:
                raise
            self.raise_error(error)

    def _begin(self) -> None:
        connection, context = self._connection, self.context
        if connection._has_events or connection.engine._has_events:
            for listener in connection.dispatch.before_cursor_execute:
                statement, parameters = listener(
                    connection,
                    context.cursor,
                    context.statement,
                    self._effective(),
                    context,
                    context.executemany,
                )
                context.statement = statement
                context.parameters = parameters if context.executemany else [parameters]
        if connection._echo:
            connection._log_info(context.statement)
            stats = context._get_cache_stats()
            if connection.engine.hide_parameters:
                connection._log_info(
                    "[%s] [SQL parameters hidden due to hide_parameters=True]", stats
                )
            else:
                shown = _sql_util._repr_params(
                    self._effective(), batches=10, ismulti=context.executemany
                )
                connection._log_info("[%s] %r", stats, shown)

    def end(self) -> None:
        """Notify listeners of the statement, after it was sent."""
        connection, context = self._connection, self.context
        if connection._has_events or connection.engine._has_events:
            try:
                connection.dispatch.after_cursor_execute(
                    connection,
                    context.cursor,
                    context.statement,
                    self._effective(),
                    context,
                    context.executemany,
                )
            except BaseException as error:
                self.raise_error(error)
        context.cursor.close()

    def _effective(self) -> Any:
        parameters = self.context.parameters
        return parameters if self.context.executemany else parameters[0]

    def raise_error(self, error: BaseException) -> NoReturn:
        """Raise the driver's error as SQLAlchemy raises it for this statement."""
        raise_as_sqlalchemy(self._connection, error, self)


def _pages(make: Any, **given: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    """The statements that a method of a compiled INSERT or of a dialect makes of many rows, each
    with its parameters. What it takes grew within 2.0: each release is given what it knows.
    """
    taken = _parameters(make.__func__)
    for statement, parameters, *_ in make(
        **{name: value for name, value in given.items() if name in taken}
    ):
        yield statement, [parameters]


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


_OF_ONE_TYPE: Final = frozenset(
    {bool, bytes, dt.date, dt.timedelta, Decimal, float, int, str, uuid.UUID}
)
"""Types whose values PostgreSQL reads as one type, or as types of which the largest holds all.
Times are excluded, as some have a zone and some have none; lists are, as they hold anything.
"""


def _is_of_several(values: Iterable[Any]) -> bool:
    """Whether a column of ``VALUES`` may be taken for another type than one of its values alone."""
    found = set(map(type, values)) - {NoneType}
    return len(found) > 1 or not found <= _OF_ONE_TYPE


def raise_as_sqlalchemy(
    connection: Connection, error: BaseException, insert: StatementContext
) -> NoReturn:
    """Raise a driver's error as SQLAlchemy raises it: wrapped, passed to ``handle_error``, and with
    the connection invalidated if it is lost.
    """
    context = insert.context
    try:
        raise error
    except BaseException as caught:
        connection._handle_dbapi_exception(
            caught, context.statement, insert._effective(), context.cursor, context
        )
    raise AssertionError("an error is raised above")


def raise_lost_commit(connection: Connection, error: BaseException) -> NoReturn:
    """Raise a driver's error as SQLAlchemy raises that of a COMMIT: without a statement."""
    try:
        raise error
    except BaseException as caught:
        connection._handle_dbapi_exception(caught, None, None, None, None)
    raise AssertionError("an error is raised above")


def statement_context(
    connection: Connection,
    of: Mapper[Any] | Connection,
    statement: Insert | Update | Delete,
    parameters: Sequence[Mapping[str, Any]],
    *,
    made: MadeValues | None = None,
) -> StatementContext:
    """Compile a statement with the cache of a base mapper, or of a connection, and bind these rows
    to it.

    :param made: values that the types' bind processors have made of these rows already.
    """
    dialect = connection.dialect
    rows = list(parameters)
    cache = compiled_cache(of, made)
    options = statement._execution_options.merge_with(
        connection._execution_options, {"compiled_cache": cache}
    )
    compiled, extracted, *rest = statement._compile_w_cache(
        dialect,
        compiled_cache=cache,
        column_keys=sorted(parameters[0]),
        for_executemany=len(parameters) > 1,
        schema_translate_map=options.get("schema_translate_map"),
    )
    # 2.1 has one more: the values of the statement's own parameters.
    more = {"param_dict": rest[0]} if len(rest) > 1 else {}
    context_class: Any = dialect.execution_ctx_cls
    try:
        context = context_class._init_compiled(
            dialect,
            connection,
            connection.connection,
            options,
            compiled,
            rows,
            statement,
            extracted,
            cache_hit=rest[-1],
            **more,
        )
    except BaseException as error:
        connection._handle_dbapi_exception(error, str(compiled), rows, None, None)
    return StatementContext(connection, context)
