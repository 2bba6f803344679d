"""The classes that execute a session's INSERT or UPDATE of a mapped class.

SQLAlchemy takes the class from a registry of its own, by plugin and kind of statement. A class of
ours is put before it and handles the statements that it can execute better. The public
``do_orm_execute`` would also work, but a session with a listener to it takes another 10 us for each
SELECT. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy.sql.base import CompileState as _CompileState

Rows: TypeAlias = Sequence[dict[str, Any]]

Execute: TypeAlias = Callable[..., Any]

_FEWEST: Final = 20
"""For fewer rows, collecting them quickly saves nothing."""


def put_before(kind: Literal["insert", "update"], ours: type[Any]) -> None:
    """Let statements of a kind be executed by our class, once. SQLAlchemy's own becomes its other
    base.
    """
    plain: Any = _CompileState.plugins["orm", kind]
    if not issubclass(plain, ours):
        both = type(plain.__name__, (ours, plain), {"__module__": plain.__module__})
        _CompileState.plugins["orm", kind] = both


def are_uniform(rows: Rows) -> bool:
    """Whether these are many rows, all of them plain dicts with the same keys."""
    if len(rows) < _FEWEST or set(map(type, rows)) != {dict}:
        return False
    return all(map(rows[0].keys().__eq__, map(dict.keys, rows)))
