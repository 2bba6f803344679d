"""Decides whether the COMMIT may travel with the last message of a flush. This is decided once,
when that message is made. If the flush is one INSERT that SQLAlchemy sends by itself, it is decided
when SQLAlchemy sends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._database import known_of
from .._drivers import (
    CommitAlong,
    Driver,
    TransactionStatus,
    driver_on,
)
from .._ids import catalogue
from .._ids.fetch import comparison_of_table
from .._ids.keys import lacks_key
from .._ids.table_names import table_name
from .._reasons import Reason
from .._routes import Distance
from .._sqlalchemy.committing import (
    acts_after_insert,
    committing_connection,
    is_begun_by_commit,
    leaves_work,
    listens_between,
)
from .._sqlalchemy.engine import sends_as_it_is
from .._sqlalchemy.executed import changed_table
from .._sqlalchemy.listeners import interference_on, refusal_between
from .._sqlalchemy.mapping import has_work_after_insert, holds_children, kept_with
from .._sqlalchemy.pages import are_all_rows
from .._sqlalchemy.unit_of_work import State
from .._writers.commit_in_message import UNKNOWN, can_compare, compared_by, read_if_met_before
from .settings import Settings


def expects_commit(uow: Any, settings: Settings, driver: Driver | None) -> bool:
    """Whether the COMMIT may travel with the flush, as far as a few cheap checks show."""
    return (
        settings.commit == "along"
        and settings.mode == "bulk"
        and driver is not None
        and driver.commits_along
        and is_begun_by_commit(uow)
        and listens_between(uow.session) is None
    )


def commit_hindrance(connection: Connection, settings: Settings) -> Reason | None:
    """Why the COMMIT never travels on a connection, as far as settings, driver and listeners
    decide; ``None`` if it may.
    """
    return (
        setting_hindrance(connection, settings)
        or interference_on(connection)
        or refusal_between(connection, several=True)
    )


def setting_hindrance(connection: Connection, settings: Settings) -> Reason | None:
    """Why the COMMIT never travels on a connection, as far as settings and driver decide."""
    if settings.commit == "apart":
        return why.COMMIT_APART
    if settings.mode_reason is not None:
        return settings.mode_reason
    driver = driver_on(connection)
    if driver is None or not driver.commits_along:
        return why.no_commit_along(connection.dialect.driver)
    autocommits = driver.transaction_status(connection.connection) == "autocommit"
    return why.AUTOCOMMIT if autocommits else None


def connection_to_commit(uow: Any, settings: Settings) -> Connection | Reason | None:
    """The connection whose COMMIT may follow the last statements of the flush in their message, as
    far as the session decides; or why it may not; or ``None`` if ``commit()`` did not begin the
    flush.
    """
    return _connection_to_commit(uow, settings) if is_begun_by_commit(uow) else None


def _connection_to_commit(uow: Any, settings: Settings) -> Connection | Reason:
    """As :func:`connection_to_commit`, for a flush that ``commit()`` is known to have begun."""
    connection = committing_connection(uow)
    if isinstance(connection, Reason):
        return connection
    # Listeners of single statements are checked later, when the statements exist.
    hindrance = setting_hindrance(connection, settings)
    if hindrance is not None:
        return hindrance
    return why.MORE_TO_FLUSH if leaves_work(uow) else connection


class OnlyInsert:
    """The one INSERT of a flush of new objects, with which the COMMIT may travel."""

    __slots__ = ("_commit", "_name", "_rows", "_table", "_uow", "connection")

    def __init__(self, uow: Any, connection: Connection, table: Table, rows: int) -> None:
        self._uow = uow
        self._rows = rows
        self._table = table
        self._name = table_name(connection, table)
        self._commit: CommitAlong | None = None
        self.connection = connection

    @classmethod
    def of(
        cls,
        uow: Any,
        settings: Settings,
        pending: Mapping[Mapper[Any], Sequence[State]],
        connection: Connection,
    ) -> OnlyInsert | None:
        """The one INSERT of the flush; ``None`` if there is more to send, or to do afterwards.
        Called only for a flush for which :func:`expects_commit` is true.
        """
        if len(pending) != 1:
            return None
        [(mapper, states)] = pending.items()
        if not (
            len(uow.states) == len(states) <= _MOST
            and isinstance(_connection_to_commit(uow, settings), Connection)
        ):
            return None
        table = _only_table(mapper)
        if (
            table is None
            or holds_children(mapper, states)
            or has_work_after_insert(mapper)
            or acts_after_insert(mapper, table)
            or not sends_as_it_is(connection)
            or refusal_between(connection, several=False) is not None
        ):
            return None
        found = cls(uow, connection, table, len(states))
        is_known = catalogue.cached(connection, found._name) is not None
        # An INSERT that returns a key needs the table's facts for the comparison.
        may = (
            is_known or not lacks_key(mapper, states) or read_if_met_before(connection, found._name)
        )
        return found if may else None

    def commit_with(
        self, context: Any, parameters: Any, status: TransactionStatus
    ) -> CommitAlong | None:
        """The COMMIT that travels with a statement about to be sent, if the statement is this
        INSERT with all its rows. Does no I/O.

        :param status: the transaction status before the statement.
        """
        compiled: Any = context.compiled
        if (
            changed_table(context) is not self._table
            or not compiled.isinsert
            or len(context.compiled_parameters) != self._rows
            or not are_all_rows(context, parameters)
            or leaves_work(self._uow)
        ):
            return None
        first = None
        if compiled.effective_returning:
            facts, before_snapshot = catalogue.cached(self.connection, self._name), status == "idle"
            distance = known_of(self.connection.dialect, Distance)
            if facts is None or not distance.commit_pays():
                return None
            if not can_compare(self.connection, before_snapshot=before_snapshot):
                return None
            compared = compared_by(self.connection, compiled.effective_returning, facts)
            if compared is None:
                return None
            first = comparison_of_table(self.connection, *compared, before_snapshot=before_snapshot)
        self._commit = CommitAlong(first)
        return self._commit

    def settle(self) -> bool:
        """Whether the COMMIT travelled. Facts of the table that proved outdated are forgotten."""
        if self._commit is not None and self._commit.is_outdated:
            catalogue.forget(self.connection, [self._name])
        return self._commit is not None and self._commit.is_committed

    def note_loss(self, error: DBAPIError) -> None:
        """Add to an error that nobody knows whether the transaction was committed, if that is so.
        The error then concerns the COMMIT as much as the INSERT, so its statement is removed.
        """
        if self._commit is not None and self._commit.is_lost:
            error.statement = error.params = None
            error.add_note(UNKNOWN)


_MOST: Final = 100
"""The most rows that are one statement, unless the engine divides them into smaller pages."""

_ONLY: Final = "only table"


def _only_table(mapper: Mapper[Any]) -> Table | None:
    """The table of a class whose new object needs one INSERT only, as far as its tables and
    relationships show; ``None`` if it needs more.
    """
    kept = kept_with(mapper)
    if _ONLY not in kept:
        tables: Sequence[Any] = mapper.tables
        if any(prop.secondary is not None or prop.post_update for prop in mapper.relationships):
            tables = ()
        kept[_ONLY] = tables[0] if len(tables) == 1 and isinstance(tables[0], Table) else None
    found: Table | None = kept[_ONLY]
    return found
