"""A savepoint that the session knows, and a context in which a session cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction, attributes


def transaction_of(session: Session) -> SessionTransaction | None:
    """The session's transaction, or the innermost of those that it has begun."""
    return session._transaction


@contextmanager
def savepoint(session: Session, connection: Connection) -> Iterator[None]:
    """Put a savepoint of ``connection`` around the block, for objects of ``session`` too: if the
    block fails, objects that were flushed in it get their previous state back.

    It works like ``Session.begin_nested()``, but has no visible effect if all goes well: nothing is
    flushed first, and no session event fires. Objects that are not flushed stay as they are.
    """
    transaction = session._transaction
    assert transaction is not None
    before = [getattr(transaction, name) for name in _KEPT]
    waiting = [state.obj() for state in session._new]
    nested = connection.begin_nested()
    noting = [_Noting(kept) for kept in before]
    for name, kept in zip(_KEPT, noting, strict=True):
        setattr(transaction, name, kept)
    try:
        yield
        nested.commit()
        for kept, now in zip(before, noting, strict=True):
            kept.clear()
            kept.update(now)
    except BaseException:
        if nested.is_active:
            nested.rollback()
        if session._transaction is transaction and transaction.is_active:
            _restore(session, waiting, before[-1], *(kept.noted for kept in noting))
        raise
    finally:
        # A transaction that begins and ends in the block has the dictionaries of this one.
        for name, kept in zip(_KEPT, before, strict=True):
            setattr(transaction, name, kept)


_KEPT: Final = ("_new", "_deleted", "_dirty", "_key_switches")
"""A transaction's records of the objects that it flushed."""


class _Noting(WeakKeyDictionary[Any, Any]):
    """Such a dictionary, which also records its additions separately."""

    def __init__(self, known: Mapping[Any, Any]) -> None:
        self.noted = WeakKeyDictionary[Any, Any]()
        super().__init__()
        super().update(known)

    def __setitem__(self, state: Any, value: Any) -> None:
        super().__setitem__(state, value)
        self.noted[state] = value

    def update(self, other: Any = (), /, **_: Any) -> None:
        """Note all of these."""
        super().update(other)
        self.noted.update(other)


def _restore(
    session: Session,
    waiting: list[Any],
    switched: Mapping[Any, Any],
    new: Mapping[Any, Any],
    deleted: Mapping[Any, Any],
    dirty: Mapping[Any, Any],
    key_switches: Mapping[Any, Any],
) -> None:
    """Give flushed objects their previous state back, as a rollback to a savepoint does.

    :param waiting: objects that were to be flushed before the savepoint, and are so again.
    :param switched: the keys that were changed before the savepoint.
    """
    identity_map, inserted = session.identity_map, set(new)
    session._expunge_states(inserted, to_transient=True)
    for state, (key, _) in key_switches.items():
        identity_map.safe_discard(state)
        state.key = switched[state][1] if state in switched else key
        if state not in inserted:
            identity_map.replace(state)
    for state in set(deleted).difference(inserted):
        session._update_impl(state, revert_deletion=True)
    for state in identity_map.all_states():
        if state in dirty:
            state._expire(state.dict, identity_map._modified)
    for item in waiting:
        if attributes.instance_state(item) in inserted:
            session.add(item)


class _OutOfUse:
    """Replaces a session's transaction, or a driver's connection, and refuses every call."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.error


@contextmanager
def out_of_use(session: Session, connection: Connection, error: BaseException) -> Iterator[None]:
    """Within the block, make the session and its connection raise ``error`` on any call that would
    send a query or end the transaction.
    """
    transaction, driver = session._transaction, connection._dbapi_connection
    stand_in: Any = _OutOfUse(error)
    session._transaction = connection._dbapi_connection = stand_in
    try:
        yield
    finally:
        session._transaction, connection._dbapi_connection = transaction, driver
