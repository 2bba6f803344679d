"""Runs an action before a connection begins its next statement, and before any listener hears of
that statement.

An event would come too late. Listeners to an ``Engine`` or to all engines are called before those
of a connection, and ``do_execute`` comes after ``before_cursor_execute``. Every statement passes
``Connection._execute_context`` (read in 2.0.8, 2.0.58 and 2.1.9), which is looked up on the
connection itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection

_NAME: Final = "_execute_context"


def before_next_statement(connection: Connection, act: Callable[[], object]) -> None:
    """Call ``act`` once, before the next statement of ``connection`` begins, in place of any
    earlier action.
    """
    nothing_before_next_statement(connection)
    execute = getattr(connection, _NAME)

    def act_first(*args: Any, **kwargs: Any) -> Any:
        nothing_before_next_statement(connection)
        act()
        return execute(*args, **kwargs)

    vars(connection)[_NAME] = act_first


def nothing_before_next_statement(connection: Connection) -> None:
    """Cancel the action, if there is one."""
    vars(connection).pop(_NAME, None)
