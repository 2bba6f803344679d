"""The steps that ``save_obj`` is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import persistence as _persistence
from sqlalchemy.orm import sync as _sync

from .lines import either
from .unit_of_work import State, UOWTransaction

save_obj: Callable[..., None] = either(_persistence, "save_obj")

organize_states_for_save: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._organize_states_for_save
)

collect_insert_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_insert_commands
)

collect_update_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_update_commands
)

emit_insert_statements: Callable[..., Any] = _persistence._emit_insert_statements

emit_update_statements: Callable[..., Any] = _persistence._emit_update_statements

finalize_saved: Callable[..., None] = _persistence._finalize_insert_update_commands

_populate: Callable[..., None] = either(_sync, "populate")


def synchronize_inherited_keys(
    mapper: Mapper[Any], table: Table, state: State, uow: UOWTransaction
) -> None:
    """Copy the key of ``table`` to the attributes of the tables that inherit from it."""
    for parent, pairs in mapper._table_to_equated[table]:
        _populate(state, parent, state, parent, pairs, uow, mapper.passive_updates)
