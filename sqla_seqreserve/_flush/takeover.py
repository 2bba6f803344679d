"""Whose a flush is: with few new objects each of our steps costs more than it could save, so that
the unit of work stays SQLAlchemy's until it executes, when it is known what is to be written.
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
"""So few new objects are looked at before it is decided."""


def take_over(uow: Any, settings: Settings, *, partial: bool) -> None:
    """Run this flush with :class:`ReservingUnitOfWork`; with few new objects, only if something of
    it proves to be worth it.

    :param partial: the flush was asked for certain objects only (``session.flush(objects)``).
    """
    if partial or len(pending_states(uow.session)) > _FEW or is_listened_to(settings):
        _reserve_in(uow, settings, partial=partial)
    else:
        uow.__class__ = UndecidedUnitOfWork
        uow.settings = settings


def settings_of(uow: Any) -> Settings | None:
    """Of the registration that has this flush; ``None``: none has."""
    if isinstance(uow, UndecidedUnitOfWork):
        return uow.settings
    return uow.seqreserve.settings if isinstance(uow, ReservingUnitOfWork) else None


def _reserve_in(uow: Any, settings: Settings, *, partial: bool) -> None:
    uow.__class__ = ReservingUnitOfWork
    uow.seqreserve = FlushRun(settings, partial)
    uow.pending = pending_states(uow.session)


class UndecidedUnitOfWork(UOWTransaction):
    """SQLAlchemy's unit of work of a flush with few new objects, as it is until it executes: then
    it stays so, or becomes a :class:`ReservingUnitOfWork`.
    """

    settings: Settings
    seqreserve: FlushRun

    def execute(self) -> None:
        if len(self.states) == 1 and is_alone(self, self.settings):
            # Most flushes.
            uow: Any = self
            uow.__class__ = UOWTransaction
            NOTHING_TO_ASK.flush(uow, NONE, uow.execute)
            return
        plain, pending = None, pending_by_mapper(self)
        # One new object is one INSERT, of which less is to be asked.
        is_one = len(self.states) == 1 and bool(pending)
        is_weighed = not (
            _may_go_round(self, pending)
            or (not is_one and _changes_pay(self))
            or (not is_one and may_gather(self, self.settings, pending))
        )
        if is_weighed:
            plain = stay_out(self, self.settings, pending)
        if plain is None:
            settings = self.settings
            _reserve_in(self, settings, partial=False)
            # Nothing comes in between where no relationship is looked at.
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
    """Whether new objects may refer to each other in a circle of classes, as far as their
    relationships tell: the actions that would tell are not there yet.
    """
    if not uow.presort_actions:
        return False
    return len(pending) > 1 or any(map(may_refer_to_itself, pending))


def _changes_pay(uow: Any) -> bool:
    """Whether the objects of a class that are there already are changed or deleted in our steps."""
    return any(
        changes_pay(mapper, len(states)) and any(state.key is not None for state in states)
        for mapper, states in uow.mappers.items()
    )
