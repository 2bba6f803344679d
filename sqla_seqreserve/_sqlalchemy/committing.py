"""The commit of a session that is in progress, and the listeners that could act between its flush
and its COMMIT.

Read in SQLAlchemy 2.0.8, 2.0.58 and 2.1.9: ``SessionTransaction.commit`` calls ``_prepare_impl``,
which flushes as long as the session is not clean, and then commits each connection.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper, Session

from .. import _reasons as why
from .._reasons import Reason
from .mapping import attributes_to_columns
from .unit_of_work import UOWTransaction

_BETWEEN: Final = (
    "before_commit",
    "after_flush",
    "after_flush_postexec",
    "pending_to_persistent",
    "persistent_to_deleted",
    "after_transaction_end",
)
"""Events of a session that fire between the last statement of a flush and the COMMIT; and
``before_commit``, whose listener may flush, and continue, before the commit's own flush.
"""

_listeners_between: Final = attrgetter(*_BETWEEN)

_PREPARING: Final = "_prepare_impl"


def is_begun_by_commit(uow: UOWTransaction) -> bool:
    """Whether the flush was begun by the commit of the session's transaction, not a savepoint's."""
    transaction = _root_of(uow)
    return transaction is not None and (
        getattr(transaction._current_fn, "__name__", "") == _PREPARING
    )


def _root_of(uow: UOWTransaction) -> Any:
    """Return the session's root transaction, which encloses the flush's own; ``None`` if a
    savepoint encloses it.
    """
    transaction = uow.transaction._parent
    if transaction is None or transaction._parent is not None or transaction.nested:
        return None
    return transaction


def committing_connection(uow: UOWTransaction) -> Connection | Reason:
    """Return the only connection that the commit will commit, and that the session itself opened;
    or the reason why it must not be committed earlier.
    """
    session = uow.session
    listens = listens_between(session)
    if listens is not None:
        return listens
    if type(session).flush is not Session.flush or "flush" in vars(session):
        return why.OWN_FLUSH
    transaction = _root_of(uow)
    entries = set() if transaction is None else set(transaction._connections.values())
    if len(entries) != 1:
        return why.SEVERAL_CONNECTIONS
    [(connection, begun, commits, closes)] = entries
    if not (commits and closes) or connection.get_transaction() is not begun:
        return why.GIVEN_CONNECTION
    if connection.in_nested_transaction() or session.twophase:
        return why.GIVEN_CONNECTION
    found: Connection = connection
    return found


def listens_between(owner: Any) -> Reason | None:
    """Say which listener hears of events of a session, or of the sessions of a class, between the
    last statement of a flush and its COMMIT.
    """
    every = _listeners_between(owner.dispatch)
    if isinstance(owner, type):
        found = [listeners._clslevel.get(owner) for listeners in every]
    else:
        # The same as bool() of each, but faster: most flushes ask.
        found = [listeners.parent_listeners or listeners.listeners for listeners in every]
    if any(found):
        return next(
            why.listener_between(name) for name, on in zip(_BETWEEN, found, strict=True) if on
        )
    return None


def leaves_work(uow: UOWTransaction) -> bool:
    """Whether objects were added, changed or deleted that this flush does not write, so that the
    commit flushes once more, or SQLAlchemy warns about them.
    """
    known = uow.states.keys()
    session = uow.session
    return not (
        known >= session._new.keys()
        and known >= session._deleted.keys()
        and known >= session.identity_map._modified
    )


def acts_after_insert(mapper: Mapper[Any], table: Table) -> bool:
    """Whether a listener hears of the values that an object gets after its INSERT."""
    manager = mapper.class_manager
    if manager.dispatch.refresh_flush or manager.dispatch.expire:
        return True
    if not mapper._table_to_equated[table]:
        return False
    keys = attributes_to_columns(mapper, table)
    return any(bool(manager[key].dispatch.set) for key in keys)
