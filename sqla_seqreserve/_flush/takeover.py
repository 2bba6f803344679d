"""Decides whether this package or SQLAlchemy writes a flush of few new objects. There, each of this
package's steps costs more than it could save, so the flush keeps SQLAlchemy's unit of work until it
executes; by then its objects are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.orm import Mapper

from .._sqlalchemy.collector import collector_paused
from .._sqlalchemy.session import pending_states
from .._sqlalchemy.unit_of_work import State, UOWTransaction, pending_by_mapper
from .report import is_listened_to
from .reserving_unit_of_work import ReservingUnitOfWork, take_over_action
from .routing import (
    NONE,
    NOTHING_TO_ASK,
    changes_pay,
    is_alone,
    may_gather,
    may_refer_to_itself,
    stay_out,
)
from .run import FlushRun
from .settings import Settings

_FEW: Final = 100
"""With at most this many new objects, the decision waits until the flush executes."""


def take_over(uow: Any, settings: Settings, *, partial: bool) -> None:
    """Run this flush with :class:`ReservingUnitOfWork`; with few new objects, only if that proves
    to save time. If the registration is off, only a report needs it.

    :param partial: the application flushes certain objects only (``session.flush(objects)``).
    """
    is_many = partial or len(pending_states(uow.session)) > _FEW
    if (is_many and settings.mode != "off") or is_listened_to(settings):
        _reserve_in(uow, settings, partial=partial)
    else:
        uow.__class__ = UndecidedUnitOfWork
        uow.settings = settings


def settings_of(uow: Any) -> Settings | None:
    """The settings of the registration that watches this flush; ``None`` if none does."""
    if isinstance(uow, UndecidedUnitOfWork):
        return uow.settings
    return uow.seqreserve.settings if isinstance(uow, ReservingUnitOfWork) else None


def _reserve_in(uow: Any, settings: Settings, *, partial: bool) -> None:
    uow.__class__ = ReservingUnitOfWork
    uow.seqreserve = FlushRun(settings, partial)
    uow.pending = pending_states(uow.session)


class UndecidedUnitOfWork(UOWTransaction):
    """The unit of work of a flush with few new objects. It behaves as SQLAlchemy's until it
    executes; then it stays SQLAlchemy's or becomes a :class:`ReservingUnitOfWork`.
    """

    settings: Settings
    seqreserve: FlushRun

    def execute(self) -> None:
        uow: Any = self
        if self.settings.mode == "off":
            uow.__class__ = UOWTransaction
            uow.execute()
            return
        if len(self.states) == 1 and is_alone(self, self.settings):
            # Most flushes take this path.
            uow.__class__ = UOWTransaction
            NOTHING_TO_ASK.flush(uow, NONE, uow.execute)
            return
        plain, pending = None, pending_by_mapper(self)
        # Most flushes insert everything that they concern; those need fewer checks.
        inserts_only = len(self.states) == sum(map(len, pending.values()))
        is_weighed = not (
            _may_go_round(self, pending)
            or (not inserts_only and _changes_pay(self))
            or (not inserts_only and may_gather(self, self.settings, pending))
        )
        if is_weighed:
            plain = stay_out(self, self.settings, pending)
        if plain is None:
            settings = self.settings
            _reserve_in(self, settings, partial=False)
            # If no relationship is processed, nothing can change the result of stay_out().
            self.seqreserve.is_weighed = is_weighed and not self.presort_actions
            for action in self.postsort_actions.values():
                take_over_action(action)
            self.execute()
            return
        with collector_paused(len(self.states)):
            plain.flush(self, pending, super().execute)

    def finalize_flush_changes(self) -> None:
        with collector_paused(len(self.states)):
            super().finalize_flush_changes()


def _may_go_round(uow: Any, pending: Mapping[Mapper[Any], Sequence[State]]) -> bool:
    """Whether new objects may refer to each other in a cycle of classes, judged by their
    relationships: the actions that would show it do not exist yet.
    """
    if not uow.presort_actions:
        return False
    return len(pending) > 1 or any(map(may_refer_to_itself, pending))


def _changes_pay(uow: Any) -> bool:
    """Whether a class has so many persistent objects to change or delete that this package's steps
    cost less.
    """
    return any(
        changes_pay(mapper, len(states)) and any(state.key is not None for state in states)
        for mapper, states in uow.mappers.items()
    )
