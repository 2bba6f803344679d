"""Decides who may see, change, replace or refuse a statement on its way to the driver; no other
module decides this.

A COPY, and an INSERT in a message of several, pass SQLAlchemy's cursor events, but none of the
other places where an application can intervene: ``before_execute`` and ``after_execute`` get a
statement as an object with the parameters of its rows; a ``before_cursor_execute`` that was
registered with ``retval=True`` may return another statement, and other parameters; ``do_execute``
and its relatives may execute it themselves; ``@compiles``, or a dialect of the application's, may
write another text. If one of these exists, rows go by SQLAlchemy's own INSERT.

Each function looks at the present state, because a listener may be added at any time.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Dialect, Insert

from .. import _reasons as why
from .._reasons import Reason

_ADD_COMMENTS: Final = ("google.cloud.sqlcommenter.", "opentelemetry.instrumentation.sqlalchemy.")
"""Modules whose listeners are registered as able to change a statement, but at most add a comment
to it.
"""

_FOR_OTHERS: Final = {"geoalchemy2.admin.": "geoalchemy2.admin.dialects.postgresql"}
"""Modules that listen to ``before_execute`` on every engine and call a function of this name in a
module for the dialect, if that has one; and their module for PostgreSQL.
"""

_SENDING: Final = (
    "do_execute",
    "do_execute_no_params",
    "do_executemany",
    "preparer",
)
"""Parts of a dialect's class that make a statement's text, or send it."""

_SQLALCHEMY: Final = "sqlalchemy."
_WRAPPED: Final = "wrap_before_cursor_execute"

OURS: Final = set[Any]()
"""Our own listeners to what a dialect executes."""


def interference_on(connection: Connection) -> Reason | None:
    """Why rows on this connection must go by SQLAlchemy's own INSERT: a listener or dialect could
    see, change, replace or refuse the statement. ``None``: there is none.
    """
    if connection._has_events or connection.engine._has_events:
        dispatch = connection.dispatch
        if not all(map(_is_for_others, dispatch.before_execute)):
            return why.listener_to("before_execute")
        if dispatch.after_execute:
            return why.listener_to("after_execute")
        for listener in dispatch.before_cursor_execute:
            if not _lets_pass(listener):
                return why.CHANGING_LISTENER
    for element in (Insert, BindParameter):
        if "_compiler_dispatcher" in element.__dict__ and _is_compiled_otherwise(element):
            return why.compiled_otherwise(element.__name__)
    return execution_elsewhere(connection.dialect)


_ONLY_WATCH: Final = (*_ADD_COMMENTS, "sentry_sdk.integrations.sqlalchemy.", "sqla_seqreserve.")
"""Modules whose listeners only record a statement: they neither refuse it nor send another."""


def refusal_between(connection: Connection, *, several: bool) -> Reason | None:
    """Say who could still act after statements were executed and before their COMMIT is sent;
    ``None``: nobody.

    :param several: whether there are several statements; events of all but the first then fire
        after all were sent.
    """
    if not (connection._has_events or connection.engine._has_events):
        return None
    dispatch = connection.dispatch
    if dispatch.commit:
        return why.listener_between("commit")
    for name in ("after_cursor_execute", *(("before_cursor_execute",) if several else ())):
        for listener in getattr(dispatch, name):
            if not _module(_within(listener)).startswith(_ONLY_WATCH):
                return why.listener_between(name)
    return None


def _within(listener: Any) -> Any:
    """Return the application's function inside SQLAlchemy's wrappers of a listener."""
    while (wrapped := _wrapped(listener)) is not None:
        listener = wrapped
    return listener


def _wrapped(listener: Any) -> Any:
    """Return the function inside SQLAlchemy's wrapper of a listener; ``None``: it is no wrapper."""
    code = getattr(listener, "__code__", None)
    if code is None or "fn" not in code.co_freevars or not _is_sqlalchemys(listener):
        return None
    return listener.__closure__[code.co_freevars.index("fn")].cell_contents


def statements_stay(connection: Connection) -> bool:
    """Whether the statement that SQLAlchemy made is sent unchanged: no listener returns another
    statement, not even the same one with a comment, and no other code makes or executes it.
    """
    if interference_on(connection) is not None:
        return False
    if not (connection._has_events or connection.engine._has_events):
        return True
    listeners = connection.dispatch.before_cursor_execute
    return all(_replacing(listener) is None for listener in listeners)


def execution_elsewhere(dialect: Dialect) -> Reason | None:
    """Say why code other than SQLAlchemy and its driver may make or execute a statement, so that
    nothing can be done in its place; ``None``: there is none.
    """
    dispatch = dialect.dispatch
    for name, listeners in (
        ("do_execute", dispatch.do_execute),
        ("do_execute_no_params", dispatch.do_execute_no_params),
        ("do_executemany", dispatch.do_executemany),
    ):
        if listeners.parent_listeners or not OURS.issuperset(listeners.listeners):
            return why.executing_listener_to(name)
    parts: Any = (dialect.__class__, dialect.statement_compiler, dialect.execution_ctx_cls)
    return _foreign(*parts)


@cache
def _foreign(cls: Any, *parts: Any) -> Reason | None:
    """Say whether a dialect differs from SQLAlchemy's in the parts that matter here."""
    owners = [next((one for one in cls.__mro__ if name in vars(one)), cls) for name in _SENDING]
    for one in (*owners, *parts):
        if not one.__module__.startswith(_SQLALCHEMY):
            return why.own_way(one.__name__)
    return None


def _is_compiled_otherwise(element: Any) -> bool:
    """Whether an application compiles an element in its own way on PostgreSQL."""
    dispatcher = element.__dict__["_compiler_dispatcher"]
    # An element that is compiled differently only for other databases is unaffected here.
    default = dispatcher.specs.get("default")
    return "postgresql" in dispatcher.specs or not _is_sqlalchemys(default)


def _is_for_others(listener: Any) -> bool:
    """Whether a ``before_execute`` listener does nothing on PostgreSQL."""
    acts = _FOR_OTHERS.get(_module(listener))
    return acts is not None and not hasattr(sys.modules.get(acts), "before_execute")


def _lets_pass(listener: Any) -> bool:
    """Whether a ``before_cursor_execute`` listener leaves the statement and its parameters
    unchanged, except for a comment.
    """
    found = _replacing(listener)
    return found is None or _module(found).startswith(_ADD_COMMENTS)


def _replacing(listener: Any) -> Any:
    """Return the application's own ``before_cursor_execute`` listener if it returns a statement
    that replaces SQLAlchemy's; ``None``: it returns nothing.
    """
    while _is_sqlalchemys(listener):
        if listener.__name__ == _WRAPPED:
            # SQLAlchemy wraps so what returns nothing.
            return None
        wrapped = _wrapped(listener)
        if wrapped is None:
            break
        listener = wrapped
    return listener


def _is_sqlalchemys(function: Any) -> bool:
    """Whether SQLAlchemy defines this callable."""
    return _module(function).startswith(_SQLALCHEMY)


def _module(function: Any) -> str:
    """Return the name of the module in which a callable was defined."""
    return f"{getattr(function, '__module__', None) or type(function).__module__}."
