"""Deletes objects as SQLAlchemy does, but sends the DELETEs together with the other statements of
the flush.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Mapper

from .._sqlalchemy.changes import (
    delete_obj,
    notify_deleted,
    organize_states_for_delete,
)
from .._sqlalchemy.commands import collect_delete_commands
from .._sqlalchemy.mapping import tables_in_order, watches_delete, watches_deleted, writes_to
from .._sqlalchemy.unit_of_work import DeleteAll as SQLAlchemyDeleteAll
from .._sqlalchemy.unit_of_work import State
from .run import FlushRun


class DeleteAll(SQLAlchemyDeleteAll):
    """Deletes all objects of an inheritance hierarchy that the flush deletes."""

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        _delete(self.mapper, uow.states_for_mapper_hierarchy(self.mapper, True, False), uow)


def _delete(base_mapper: Mapper[Any], states: Iterable[State], uow: Any) -> None:
    """Delete objects with the steps of SQLAlchemy's ``delete_obj``; the DELETEs travel with the
    next message.
    """
    run: FlushRun = uow.seqreserve
    states = list(states)
    if not states:
        return
    mappers = {state.manager.mapper for state in states}
    if run.way_of_all(uow, base_mapper, states) is not None:
        run.drain()
        delete_obj(base_mapper, states, uow)
        return
    if any(map(watches_delete, mappers)):
        run.settle()
    records = list(organize_states_for_delete(base_mapper, states, uow))
    for table, mapper in reversed(list(tables_in_order(base_mapper))):
        if mapper.inherits and mapper.passive_deletes:
            continue
        concerned = [record for record in records if writes_to(record[2], table)]
        commands = list(collect_delete_commands(base_mapper, uow, table, concerned))
        if commands:
            run.queue(commands[0][1], uow).delete(
                base_mapper, mapper, table, commands, [record[0] for record in concerned]
            )
    if any(map(watches_deleted, mappers)):
        run.drain()
        notify_deleted(records)
