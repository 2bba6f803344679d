"""Whether a flush of few rows is several statements, which travel in one message where the driver
can: changed and deleted objects, link rows, and new objects beside them.

A flush of one object is one statement, and SQLAlchemy's as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Mapper

from .._drivers import driver_of
from .._sqlalchemy.session import is_sharded, peek_dialect, pending_mutations
from .._sqlalchemy.unit_of_work import State
from .settings import Settings


def may_gather(
    uow: Any, settings: Settings, pending: Mapping[Mapper[Any], Sequence[State]]
) -> bool:
    """Whether the flush may be several statements, not all of them INSERTs, and its driver sends
    several in one message; asked before it has its connection, as far as that is told at a glance.

    :param pending: the new objects that the flush inserts.
    """
    states = uow.states
    if len(states) == sum(map(len, pending.values())) or settings.mode != "bulk":
        return False
    if len(states) == 1:
        [state] = states
        several = bool(uow.presort_actions) and _changes_links(state)
    else:
        several = any(state.key is not None and not listed for state, (_, listed) in states.items())
    if not several or uow.session.twophase or is_sharded(uow.session):
        return False
    dialect = peek_dialect(uow)
    driver = driver_of(dialect) if dialect is not None else None
    return driver is not None and driver.sends_several and driver.returns_each


def _changes_links(state: State) -> bool:
    """Whether a list of objects that link rows tell of was changed."""
    return any(
        prop.secondary is not None
        and (prop.key in state.committed_state or prop.key in pending_mutations(state))
        for prop in state.manager.mapper.relationships
    )
