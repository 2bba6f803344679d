"""Switch the extension on for a session, a session class or a session factory.

::

    from sqla_seqreserve import register

    registration = register(sessionmaker_or_session_or_class)
    registration.mode = "reserve"          # the feature flag, from the next flush on
    remove = registration.on_flush(print)  # a FlushReport after each flush that wrote
    print(registration.explain(engine))    # how each class is written, and why not faster

Nothing else in an application changes: ``session.add_all(objects); session.commit()``.

The modes: ``"bulk"`` reserves keys, and writes by COPY what COPY writes exactly as INSERT does;
``"reserve"`` reserves keys and lets SQLAlchemy write; ``"off"`` leaves the flush unchanged.

``on_drift`` says what happens if a sequence is behind its table when an engine is first used: see
:func:`register`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, get_args
from weakref import ReferenceType, WeakKeyDictionary, ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, sessionmaker

from . import _reasons as why
from ._drivers.execution import execute_rows_quickly, write_many_by
from ._flush.bulk_statements import ManyWriter, follow
from ._flush.routing import session_reason
from ._flush.settings import Commit, Mode, OnDrift, Reserve, Settings
from ._flush.takeover import settings_of, take_over
from ._flush.targets import registration_key, resolve_target
from ._ids.keys import mapper_of
from ._mistakes import checked_choice, checked_classes
from ._reasons import Reason
from ._sqlalchemy.committing import listens_between
from ._sqlalchemy.mapping import all_mappers
from ._sqlalchemy.warnings import pass_over_ours
from .errors import ConfigurationError
from .reports import FlushReport

if TYPE_CHECKING:
    from ._flush.explain import Explanation

__all__ = ["Mode", "Registration", "register"]

log = logging.getLogger("sqla_seqreserve.registration")

pass_over_ours()

# Neither keeps the other alive: a target's listener holds its registration, and a session is freed
# together with its registration.
_registrations: WeakKeyDictionary[Any, ReferenceType[Registration]] = WeakKeyDictionary()

_RANK: Final = "sqla_seqreserve_rank"
"""Kept with a session's transaction: the rank of the registration that decides for it."""


def register(
    target: Any,
    *,
    classes: Iterable[type[Any]] | None = None,
    mode: Mode = "bulk",
    reserve: Reserve = "auto",
    copy_min_rows: int | None = None,
    prefetch: int = 0,
    on_drift: OnDrift = "ignore",
    commit: Commit = "along",
) -> Registration:
    """Reserve keys and write by COPY in every flush of ``target``.

    :param target: a ``Session`` or ``AsyncSession`` (instance or class), ``sessionmaker``,
        ``async_sessionmaker``, ``scoped_session`` or ``async_scoped_session``.
    :param classes: mapped classes or declarative bases to enrol, subclasses included; ``None``:
        every mapped class that qualifies.
    :param mode: ``"bulk"``, ``"reserve"`` or ``"off"``.
    :param reserve: when keys are reserved. ``"auto"``: before the first INSERT of a flush where
        that costs less, or where a ``before_insert`` listener could read them; otherwise the
        INSERTs return them, as in plain SQLAlchemy. ``"always"``: before the first INSERT of every
        flush. Mode ``"reserve"`` implies ``"always"``.
    :param copy_min_rows: the smallest number of rows of one class that is written by COPY;
        ``None``: the number from which COPY is faster on this driver and network; 1: COPY whenever
        possible.
    :param prefetch: how many ids of each sequence a database connection keeps in advance. A flush
        that needs no more than these does not ask the database for any. 0: none are kept. Kept ids
        are lost with the connection, and a sequence is reported as exhausted while it still has
        this many ids left. If a table has no schema, ids are kept only if the server reports
        ``search_path``, as PostgreSQL 18 does; an engine on which no ids are kept for that reason
        logs this once. On asyncpg, which sends one statement per message, none are kept. The
        message that writes the rows also compares the table: if it was altered or recreated, or its
        sequence restarted, the kept ids are discarded and the flush starts again. A repair in this
        process makes all kept ids invalid. A repair in another process cannot be detected: the
        first duplicate key discards the kept ids then. Do not use it for databases where that
        happens.
    :param on_drift: what to do about sequences of the enrolled classes that are behind their
        tables. They are looked for once per engine, in the first flush that inserts (four queries,
        whatever the number of classes). ``"ignore"``: nothing, and no query is sent; ``"warn"``: a
        :class:`.SequenceDriftWarning` and a line in the log; ``"raise"``: a
        :class:`.SequenceDriftError` before anything is written, in every flush until they are
        repaired; ``"repair"``: :func:`.repair_sequences` in the session's transaction, which must
        be READ COMMITTED, and a :class:`.SequenceDriftError` if that fails.
    :param commit: ``"along"``: on psycopg the COMMIT travels with the last message of the flush
        that ``session.commit()`` began, if nothing can come between them: no listener could act
        there, and no result of the flush could be refused; on a server less than 0.35 ms away, only
        if nothing has to be compared before it. ``commit()`` still raises an error of the COMMIT.
        If the connection is lost meanwhile, a note on the error says that it is not known whether
        the transaction was committed. ``"apart"``: the COMMIT is sent by itself.
    :return: the registration. Registering a target again returns the same one with the new
        settings. If several registered targets cover a session, the most specific one decides: the
        instance, then its factory, then its class.
    :raises ConfigurationError: a setting or the target is not one of these.
    """
    key = registration_key(target)
    known = _known(key)
    registration = known or Registration(target)
    registration._configure(classes, mode, reserve, copy_min_rows, prefetch, on_drift, commit)
    if known is None:
        registration._listen()
        _registrations[key] = ref(registration)
    return registration


class Registration:
    """The extension on one target; :func:`register` makes it."""

    def __init__(self, target: Any) -> None:
        session_target, self._accepts, rank = resolve_target(target)
        self._key = ref(registration_key(target))
        # The target's listener holds the registration; the registration must not hold the target.
        self._session_target = ref(session_target)
        self._callbacks: dict[object, Callable[[FlushReport], object]] = {}
        self._settings = Settings(rank=rank)
        self._writer = ManyWriter(lambda: self._settings)
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Registration of {self._session_target()!r}: mode {self.mode}>"

    @property
    def mode(self) -> Mode:
        """``"bulk"``, ``"reserve"`` or ``"off"``; assign to change it from the next flush on."""
        return self._settings.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        checked_choice("mode", mode, get_args(Mode))
        self._set(mode=mode)

    def on_flush(self, callback: Callable[[FlushReport], object]) -> Callable[[], None]:
        """Call ``callback(FlushReport)`` after each flush that wrote; return a function that
        removes the callback. Adding and removing take effect at the next flush.

        The callback runs inside ``flush()``, when the objects are persistent. An exception that it
        raises makes the flush fail; if the COMMIT has travelled along (``report.committed``), the
        exception is logged instead.
        """
        # Each has a key of its own, because the same callback may have been added before.
        key = object()
        self._set_callback(key, callback)

        def remove() -> None:
            self._set_callback(key, None)

        return remove

    def explain(
        self, bind: Engine | Connection, classes: Iterable[type[Any]] | None = None
    ) -> Sequence[Explanation]:
        """Say how the next flush would write each class to the database of ``bind``: from how many
        rows it uses COPY, from how many changed objects one statement, the sequence of its ids, the
        reason and the remedy. The catalogue is read again; no id is taken, and no new transaction
        stays open.

        :param bind: for an engine, the result describes a session whose flush begins the
            transaction; for a connection, it describes the transaction in its present state. For an
            ``AsyncEngine`` or ``AsyncConnection`` use ``await aio.explain(registration, bind)``.
        :param classes: the classes to explain; ``None``: every mapped class that is enrolled.
        :return: one :class:`Explanation` per class; ``str()`` of the result is a table.
        :raises ConfigurationError: ``bind`` is neither.
        :raises UnmappedClassError: a class is not mapped.
        """
        if not isinstance(bind, Engine | Connection):
            raise ConfigurationError(
                f"explain() takes an Engine or a Connection, found {bind!r}. With asyncio: await "
                "sqla_seqreserve.aio.explain(registration, async_engine_or_connection)"
            )
        # Imported here because an application needs it during development and not at every start.
        from ._flush.explain import explain

        settings = self._settings
        if classes is not None:
            mappers = [mapper_of(cls) for cls in classes]
        else:
            mappers = [mapper for mapper in all_mappers() if settings.enrols(mapper)]
        reason = self._session_reason()
        if isinstance(bind, Connection):
            return explain(bind, mappers, settings, reason, self._commit_reason())
        with bind.connect() as connection:
            return explain(connection, mappers, settings, reason, self._commit_reason())

    def _session_reason(self) -> Reason | None:
        """Why SQLAlchemy itself saves everything in the target's sessions, as far as the target
        shows.
        """
        target = self._session_target()
        if isinstance(target, Session):
            return session_reason(target)
        is_two_phase = isinstance(target, sessionmaker) and target.kw.get("twophase")
        return why.TWO_PHASE if is_two_phase else None

    def _commit_reason(self) -> Reason | None:
        """Why the COMMIT of the target's sessions takes a round trip of its own, as far as the
        target shows.
        """
        target = self._session_target()
        if target is None:
            return None
        owner = target.class_ if isinstance(target, sessionmaker) else target
        return self._session_reason() or listens_between(owner)

    def unregister(self) -> None:
        """Remove the extension from its target. Flushes that have begun end as they began. The
        registration's mode is ``"off"`` afterwards.
        """
        key = self._key()
        if _known(key) is self:
            del _registrations[key]
            event.remove(self._session_target(), "before_flush", self._before_flush)
            event.remove(self._session_target(), "after_begin", self._after_begin)
            # A connection that an application keeps may still lead here.
            self._set(mode="off")

    # The events that we handle

    def _before_flush(
        self, session: Session | None = None, flush_context: Any = None, instances: Any = None
    ) -> None:
        """Replace this flush's unit of work by ours, unless a more specific registration has done
        so already. A test may call an event's listeners without a flush, as SQLAlchemy's own tests
        do.
        """
        if session is None:
            return
        if self._accepts is not None and not self._accepts(session):
            return
        settings = self._settings
        owner = settings_of(flush_context)
        if owner is not None and owner.rank >= settings.rank:
            return
        take_over(flush_context, settings, partial=instances is not None)

    def _after_begin(
        self,
        session: Session | None = None,
        transaction: Any = None,
        connection: Connection | None = None,
    ) -> None:
        """Let statements that the session executes with many rows travel as one statement, unless a
        more specific registration decides for the session.
        """
        if session is None or connection is None:
            return
        if self._accepts is not None and not self._accepts(session):
            return
        settings, decided = self._settings, vars(transaction)
        if decided.get(_RANK, settings.rank) > settings.rank:
            return
        decided[_RANK] = settings.rank
        if settings.mode == "bulk":
            follow(connection, self._writer)
        else:
            write_many_by(connection, None)

    def _listen(self) -> None:
        execute_rows_quickly()
        event.listen(self._session_target(), "before_flush", self._before_flush)
        event.listen(self._session_target(), "after_begin", self._after_begin)

    def _configure(
        self,
        classes: Iterable[type[Any]] | None,
        mode: Mode,
        reserve: Reserve,
        copy_min_rows: int | None,
        prefetch: int,
        on_drift: OnDrift,
        commit: Commit,
    ) -> None:
        if copy_min_rows is not None:
            _checked_int("copy_min_rows", copy_min_rows, 1, ", or None")
        checked_choice("mode", mode, get_args(Mode))
        checked_choice("reserve", reserve, get_args(Reserve))
        ahead = _checked_int("prefetch", prefetch, 0)
        checked_choice("on_drift", on_drift, get_args(OnDrift))
        checked_choice("commit", commit, get_args(Commit))
        enrolled = None if classes is None else checked_classes(classes)
        self._set(
            mode=mode,
            reserve=reserve,
            copy_min_rows=copy_min_rows,
            prefetch=ahead,
            commit=commit,
            classes=enrolled,
            on_drift=on_drift,
        )

    def _set(self, **changes: Any) -> None:
        """Apply other settings to the flushes that begin from now on."""
        with self._lock:
            self._settings = replace(self._settings, **changes)

    def _set_callback(self, key: object, callback: Callable[[FlushReport], object] | None) -> None:
        with self._lock:
            if callback is None:
                self._callbacks.pop(key, None)
            else:
                self._callbacks[key] = callback
            callbacks = tuple(self._callbacks.values())
            self._settings = replace(self._settings, callbacks=callbacks)


def _known(key: Any) -> Registration | None:
    try:
        found = _registrations.get(key)
    except TypeError:  # no weak reference to it, so it is none of the targets
        return None
    return found() if found is not None else None


def _checked_int(name: str, value: object, least: int, otherwise: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            f"{name} must be an int of {least} or more{otherwise}, found {value!r}"
        )
    return value
