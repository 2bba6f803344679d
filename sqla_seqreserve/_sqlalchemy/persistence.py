"""The steps that ``save_obj`` is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any, Final

from sqlalchemy import Insert, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import persistence as _persistence
from sqlalchemy.orm import sync as _sync

from . import either
from .engine import StatementContext
from .made_values import MadeValues, compiled_cache
from .unit_of_work import State, UOWTransaction

save_obj: Callable[..., None] = either(_persistence, "save_obj")


def save_in_order(base_mapper: Mapper[Any], states: Sequence[State], uow: UOWTransaction) -> None:
    """Save new objects as ``save_obj`` does, but in the given order: SQLAlchemy sorts them by
    ``insert_order``, the number of their ``add()``.
    """
    before: list[Any] = [state.insert_order for state in states]
    try:
        for state, number in zip(states, sorted(before), strict=True):
            state.insert_order = number
        save_obj(base_mapper, states, uow)
    finally:
        for state, number in zip(states, before, strict=True):
            state.insert_order = number


organize_states_for_save: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._organize_states_for_save
)

collect_insert_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_insert_commands
)

_emit_insert_statements: Callable[..., Any] = _persistence._emit_insert_statements

finalize_saved: Callable[..., None] = _persistence._finalize_insert_update_commands

_populate: Callable[..., None] = either(_sync, "populate")


leave_as_written: Callable[..., None] = _persistence._postfetch


WAY_CHOSEN: Final = "sqla_seqreserve_way_chosen"
"""An execution option: the flush has decided already that SQLAlchemy writes these rows, and why."""


def emit_insert_statements(
    base_mapper: Mapper[Any],
    uow: UOWTransaction,
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[tuple[Any, ...]],
    made: MadeValues | None,
) -> None:
    """Send INSERTs as SQLAlchemy does: for objects of ``mapper``, but as the class for which the
    table was mapped, since only the server defaults of that class are read back.

    :param made: values that the types' bind processors have made of these rows already.
    """
    options: dict[str, Any] = {WAY_CHOSEN: True}
    if made is not None:
        options["compiled_cache"] = compiled_cache(base_mapper, made)
    owner = base_mapper._sorted_tables.get(table, mapper)
    _emit_insert_statements(base_mapper, uow, owner, table, commands, execution_options=options)


def emit_insert_of_rows(
    mapper: Mapper[Any],
    table: Table,
    commands: Iterator[tuple[Any, ...]],
    statement: Insert,
    options: Any,
) -> Any:
    """Execute an application's ``insert()`` for rows of a class, as SQLAlchemy does; return its
    result. Nothing is kept of the rows.

    :param options: the execution options.
    """
    base_mapper = mapper.base_mapper
    return _emit_insert_statements(
        base_mapper,
        None,
        base_mapper._sorted_tables.get(table, mapper),
        table,
        commands,
        bookkeeping=False,
        use_orm_insert_stmt=statement,
        execution_options=options,
    )


class PostfetchResult:
    """The part of a result that ``_postfetch`` uses."""

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context = context


def postfetch(
    uow: UOWTransaction,
    table: Table,
    state: State,
    row: dict[str, Any],
    insert: StatementContext,
    position: int,
    expressions: Any,
    returned: Sequence[Any] | None,
) -> None:
    """Leave an inserted object as SQLAlchemy leaves it: defaults are kept, values that the database
    filled in are loaded or expired, keys are copied to the tables that inherit them.

    :param position: the row's position among those of the INSERT.
    :param returned: the values of the columns that came back, in their order.
    """
    leave_as_written(
        state.manager.mapper,
        uow,
        table,
        state,
        row,
        PostfetchResult(insert.context),
        insert.compiled_parameters(position),
        expressions,
        False,
        returned,
    )


# Since 2.0.10. Releases before take the rows that come back in the order in which they come, which
# on PostgreSQL is that of VALUES.
IN_ORDER: Final[dict[str, Any]] = (
    {"sort_by_parameter_order": True}
    if "sort_by_parameter_order" in signature(Insert.return_defaults).parameters
    else {}
)


def insert_statement(
    base_mapper: Mapper[Any], table: Table, returned: tuple[Any, ...], *, several: bool
) -> Insert:
    """Return the INSERT that SQLAlchemy makes for objects of a class, with the columns other than
    the key that must come back; made once.

    :param several: whether several rows come back, and must be matched to their objects.
    """
    plain: Insert = base_mapper._memo(("insert", table), table.insert)
    if not returned and not several:
        return plain

    def make() -> Insert:
        statement = plain
        if returned:
            statement = statement.return_defaults(*returned, **IN_ORDER)
        if several:
            statement = statement.return_defaults(*table.primary_key, **IN_ORDER)
        return statement

    made: Insert = base_mapper._memo(("sqla_seqreserve insert", table, returned, several), make)
    return made


def synchronize_inherited_keys(
    mapper: Mapper[Any], table: Table, state: State, uow: UOWTransaction
) -> None:
    """Copy the key of ``table`` to the attributes of the tables that inherit from it."""
    for parent, pairs in mapper._table_to_equated[table]:
        _populate(state, parent, state, parent, pairs, uow, mapper.passive_updates)
