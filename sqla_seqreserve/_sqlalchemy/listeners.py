"""Who may see, change, replace or refuse a statement on its way to the driver: decided here, and
nowhere else.

A COPY, and an INSERT that travels in a message of several, pass SQLAlchemy's cursor events, and no
other place where an application may put itself: ``before_execute`` and ``after_execute`` get a
statement as an object with the parameters of its rows; a ``before_cursor_execute`` that was
registered with ``retval=True`` may return another statement, and other parameters; ``do_execute``
and its relatives may execute it by themselves; ``@compiles``, or a dialect of the application's,
may write another text. Where there is one of these, rows go by SQLAlchemy's own INSERT.

Each question looks at the present state of things, for a listener may come at any time.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Dialect, Insert

from .. import _reasons as why
from .._reasons import Reason

_ADD_COMMENTS: Final = ("google.cloud.sqlcommenter.", "opentelemetry.instrumentation.sqlalchemy.")
"""Modules whose listeners are registered as such that may change a statement, and add a comment to
it at most.
"""

_FOR_OTHERS: Final = {"geoalchemy2.admin.": "geoalchemy2.admin.dialects.postgresql"}
"""Modules that listen to ``before_execute`` on every engine and hand on to one for the dialect, if
that has a function of the name; and theirs for PostgreSQL.
"""

_SENDING: Final = (
    "do_execute",
    "do_execute_no_params",
    "do_executemany",
    "preparer",
)
"""Parts of a dialect's class that make a statement's text, or send it."""

_STOCK: Final = "sqlalchemy."
_WRAPPED: Final = "wrap_before_cursor_execute"

OURS: Final = set[Any]()
"""Our own listeners to what a dialect executes."""


def interference_on(connection: Connection) -> Reason | None:
    """Why rows on this connection must go by SQLAlchemy's own INSERT: somebody could see, change,
    replace or refuse the statement there. ``None``: nobody could.
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


def execution_elsewhere(dialect: Dialect) -> Reason | None:
    """Why a statement may be made or executed by somebody else than SQLAlchemy and its driver, so
    that nothing can be done in its place; ``None``: it is not.
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
    """Whether a dialect is another one than SQLAlchemy's, in what is of interest here."""
    owners = [next((one for one in cls.__mro__ if name in vars(one)), cls) for name in _SENDING]
    for one in (*owners, *parts):
        if not one.__module__.startswith(_STOCK):
            return why.own_way(one.__name__)
    return None


def _is_compiled_otherwise(element: Any) -> bool:
    """Whether an application writes an element in its own way on PostgreSQL."""
    dispatcher = element.__dict__["_compiler_dispatcher"]
    # What is registered for other databases alone leaves this one its own.
    default = dispatcher.specs.get("default")
    return "postgresql" in dispatcher.specs or not _module(default).startswith(_STOCK)


def _is_for_others(listener: Any) -> bool:
    """Whether a ``before_execute`` listener does nothing on PostgreSQL."""
    acts = _FOR_OTHERS.get(_module(listener))
    return acts is not None and not hasattr(sys.modules.get(acts), "before_execute")


def _lets_pass(listener: Any) -> bool:
    """Whether a ``before_cursor_execute`` listener leaves the statement and its parameters as they
    are, but for a comment.
    """
    module = _module(listener)
    if not module.startswith(_STOCK):
        return module.startswith(_ADD_COMMENTS)
    # Around one that returns nothing, or that is to be called by names.
    if listener.__name__ == _WRAPPED:
        return True
    within = dict(zip(listener.__code__.co_freevars, listener.__closure__ or (), strict=True))
    return "fn" in within and _lets_pass(within["fn"].cell_contents)


def _module(function: Any) -> str:
    """Where something that can be called was defined."""
    return f"{getattr(function, '__module__', None) or type(function).__module__}."
