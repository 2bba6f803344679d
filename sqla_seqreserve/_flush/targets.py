"""What may be registered: a session, or whatever makes sessions, synchronous or not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias
from weakref import ref

from sqlalchemy.orm import Session, scoped_session, sessionmaker

from .._mistakes import not_a_target

# How specific a target is: first by its kind, then by the depth of its inheritance.
Rank: TypeAlias = tuple[int, int]
_SYNC_CLASS: Final = 0
_ASYNC_CLASS: Final = 1
_FACTORY: Final = 2
_INSTANCE: Final = (3, 0)


def registration_key(target: Any) -> Any:
    """Return the key under which a target is remembered: for an ``AsyncSession``, the session that
    it drives; for a registry of scoped sessions, its factory.
    """
    asyncio = _asyncio()
    if isinstance(target, scoped_session) or (
        asyncio and isinstance(target, asyncio.async_scoped_session)
    ):
        return registration_key(target.session_factory)
    return target.sync_session if asyncio and isinstance(target, asyncio.AsyncSession) else target


def resolve_target(target: Any) -> tuple[Any, Callable[[Session], bool] | None, Rank]:
    """Return the object on which the events are listened for, a test for which of its sessions
    count, and how specific the target is.
    """
    if isinstance(target, Session):
        return target, None, _INSTANCE
    if isinstance(target, scoped_session):
        return resolve_target(target.session_factory)
    if isinstance(target, sessionmaker):
        return target, None, (_FACTORY, len(target.class_.__mro__))
    if isinstance(target, type) and issubclass(target, Session):
        return target, None, (_SYNC_CLASS, len(target.__mro__))
    asyncio = _asyncio()
    if asyncio is not None:
        if isinstance(target, asyncio.AsyncSession):
            return target.sync_session, None, _INSTANCE
        if isinstance(target, asyncio.async_scoped_session):
            return resolve_target(target.session_factory)
        if isinstance(target, asyncio.async_sessionmaker):
            cls = _sync_class_of_its_own(target)
            return cls, None, (_FACTORY, len(cls.__mro__))
        if isinstance(target, type) and issubclass(target, asyncio.AsyncSession):
            return _async_target(target, asyncio.async_session)
    raise not_a_target(target)


def _sync_class_of_its_own(maker: Any) -> type[Session]:
    """Give the sessions of an ``async_sessionmaker`` a ``Session`` class of their own, as
    ``sessionmaker`` does by itself.

    Sessions that the factory has made before are not of this class.
    """
    base = maker.kw.get("sync_session_class") or maker.class_.sync_session_class
    cls: type[Session] = type(base.__name__, (base,), {})
    maker.configure(sync_session_class=cls)
    return cls


def _async_target(
    cls: Any, async_session_of: Callable[[Session], Any]
) -> tuple[Any, Callable[[Session], bool], Rank]:
    """Return the class of the sessions that an ``AsyncSession`` drives, as the object to listen on,
    and a test that selects only sessions that it drives.
    """
    known = ref(cls)

    def accepts(session: Session) -> bool:
        driven = known()
        return driven is not None and isinstance(async_session_of(session), driven)

    return cls.sync_session_class, accepts, (_ASYNC_CLASS, len(cls.__mro__))


def _asyncio() -> Any:
    """Return SQLAlchemy's asyncio extension if it is in use. Importing it needs greenlet, which not
    everybody installs.
    """
    return sys.modules.get("sqlalchemy.ext.asyncio")
