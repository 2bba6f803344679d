"""The flush: SQLAlchemy's unit of work, with keys reserved before it executes and with one of its
steps replaced.

A flush runs with :class:`ReservingUnitOfWork` if a :class:`~sqla_seqreserve.Registration` watches
it and this package can save time in it (``_flush.takeover``). A pending object then goes through
these steps:

1. SQLAlchemy's unit of work sorts out cascades, orphans and dependencies, unchanged. Then, before
   its first action, the keys that must be known before the INSERTs are reserved in one round trip
   for each connection (:meth:`ReservingUnitOfWork._generate_actions`).
2. The actions run in SQLAlchemy's order. Keys are copied from parents to children in a tight loop
   if all objects concerned are new (``_flush.synchronize``). Where SQLAlchemy would save objects,
   :class:`SaveAll` (or, in a cyclic graph, :class:`SaveSome`) runs :func:`_save`: the same steps as
   SQLAlchemy's ``save_obj``, with the same events, updates and row switches.
3. This package replaces the step that collects and sends the INSERT: ``_flush.inserts`` gives COPY
   the rows that, according to the plan, COPY writes exactly as INSERT would, and leaves the others
   to SQLAlchemy's own functions.
4. The unit of work registers the objects as persistent, and the report is sent.

If anything fails, the keys of objects that were not inserted are removed from them, and the
exception is the one that SQLAlchemy raises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.base import CALLABLES_OK, PASSIVE_NO_INITIALIZE

from .._drivers import OutdatedError
from .._sqlalchemy.collector import collector_paused
from .._sqlalchemy.commands import collect_update_commands
from .._sqlalchemy.mapping import (
    has_work_after_insert,
    has_work_after_update,
    tables_in_order,
    watches_insert,
    watches_update,
)
from .._sqlalchemy.persistence import finalize_saved, organize_states_for_save
from .._sqlalchemy.session import (
    register_changed,
    register_deleted,
    register_inserted,
    register_persistent,
)
from .._sqlalchemy.unit_of_work import (
    HISTORY_BLANK,
    SaveUpdateAll,
    SaveUpdateState,
    State,
    UOWTransaction,
    check_polymorphic_identities,
    presort,
)
from .._sqlalchemy.unit_of_work import DeleteAll as SQLAlchemyDeleteAll
from .cycles import find_cycle
from .deletes import DeleteAll
from .inserts import insert_records
from .reserved_keys import Record
from .run import FlushRun
from .synchronize import PROCESSES

# What the unit of work stores for an object: whether it is deleted, and whether it is only listed.
_SAVED: Final = (False, False)
_DELETED: Final = (True, False)


class ReservingUnitOfWork(UOWTransaction):
    """SQLAlchemy's unit of work of one flush, extended to reserve keys and to save by COPY."""

    seqreserve: FlushRun
    pending: Collection[State]

    def _per_mapper_flush_actions(self, mapper: Mapper[Any]) -> None:
        super()._per_mapper_flush_actions(mapper)
        for kind in (SaveUpdateAll, SQLAlchemyDeleteAll):
            take_over_action(self.postsort_actions[kind, mapper.base_mapper])

    def register_object(
        self,
        state: State,
        isdelete: bool = False,
        listonly: bool = False,
        cancel_delete: bool = False,
        operation: str | None = None,
        prop: Any = None,
    ) -> bool:
        """Does what SQLAlchemy's method does, but faster for new objects and for objects that are
        registered already: each relationship registers each object again.
        """
        if state in self.states:
            if not listonly and (isdelete or cancel_delete):
                self.states[state] = (isdelete, False)
            return True
        mapper = state.manager.mapper
        if state not in self.pending or mapper not in self.mappers:
            return super().register_object(
                state, isdelete, listonly, cancel_delete, operation, prop
            )
        self.mappers[mapper].add(state)
        # Two shared tuples, not one for each object: many new tuples start the garbage collector.
        self.states[state] = (isdelete, True) if listonly else _DELETED if isdelete else _SAVED
        return True

    def get_attribute_history(
        self, state: State, key: str, passive: Any = PASSIVE_NO_INITIALIZE
    ) -> Any:
        """Does what SQLAlchemy's method does, but faster for a new object's relationship that
        holds nothing and was not changed.
        """
        if (
            state.key is None
            and not passive & CALLABLES_OK
            and key not in state.dict
            and key not in state.committed_state
            and "_pending_mutations" not in state.__dict__
        ):
            return HISTORY_BLANK
        return super().get_attribute_history(state, key, passive)

    def _generate_actions(self) -> set[Any]:
        presort(self)
        run = self.seqreserve
        cycle = find_cycle(self) if run.may_reserve(self.session) else None
        run.reserve(self, cycle)
        if cycle is not None and run.saves_at_once and cycle.save_at_once():
            run.cycle = cycle
        actions = super()._generate_actions()
        if run.way is None or run.gathers:
            for action in actions:
                ours = PROCESSES.get(action.__class__)
                if ours is not None:
                    action.__class__ = ours
        return actions

    def execute(self) -> None:
        try:
            with collector_paused(len(self.states)), self.seqreserve.listening(self):
                try:
                    self._execute()
                except OutdatedError:
                    self.seqreserve.begin_again()
                    self._execute()
        except BaseException as error:
            if isinstance(error, DBAPIError):
                # Imported here so that starting an application does not pay for it.
                from .refused_object import note_change

                note_change(error, self)
            if isinstance(error, StatementError):
                from .refused_object import note_values

                note_values(error, self)
            self.seqreserve.failed(error)
            raise
        finally:
            # They refer to this unit of work, and would keep its objects in the session until the
            # garbage collector runs.
            self.seqreserve.queues.clear()
            self.seqreserve.cycle = None

    def _execute(self) -> None:
        try:
            super().execute()
        except OutdatedError:
            raise
        except Exception:
            # SQLAlchemy finds cycles of objects only when nothing else is left to do. By then it
            # has sent the statements that still wait here, and the server may have refused them.
            self.seqreserve.send_waiting()
            raise
        self.seqreserve.finish(self)

    def finalize_flush_changes(self) -> None:
        deleted = {state for state, (is_delete, _) in self.states.items() if is_delete}
        saved = self.states.keys() - deleted
        if deleted:
            register_deleted(self.session, deleted)
        if self.seqreserve.way is None:
            with collector_paused(len(saved)):
                saved.difference_update(register_inserted(self.session, saved))
        saved.difference_update(register_changed(self.session, saved))
        if saved:
            register_persistent(self.session, saved)
        self.seqreserve.report.send()


class SaveAll(SaveUpdateAll):
    """Saves every object of an inheritance hierarchy."""

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        _save(self.mapper, uow.states_for_mapper_hierarchy(self.mapper, False, False), uow)

    def per_state_flush_actions(self, uow: Any) -> Iterator[Any]:
        for action in super().per_state_flush_actions(uow):
            if isinstance(action, SaveUpdateState):
                action.__class__ = SaveSome
            yield action


_OURS: Final[Mapping[type[Any], type[Any]]] = {
    SaveUpdateAll: SaveAll,
    SQLAlchemyDeleteAll: DeleteAll,
}


def take_over_action(action: Any) -> None:
    """Replace the class of one of SQLAlchemy's actions by this package's, if there is one."""
    ours = _OURS.get(action.__class__)
    if ours is not None:
        action.__class__ = ours


class SaveSome(SaveUpdateState):
    """Saves objects of a cyclic graph: those that are ready at the same time, together."""

    __slots__ = ()

    def execute_aggregate(self, uow: Any, recs: set[Any]) -> None:
        mine = [rec for rec in recs if rec.__class__ is SaveSome and rec.mapper is self.mapper]
        recs.difference_update(mine)
        _save(self.mapper, [self.state, *(rec.state for rec in mine)], uow)

    def __repr__(self) -> str:
        # CircularDependencyError shows it.
        return super().__repr__().replace(SaveSome.__name__, SaveUpdateState.__name__, 1)


def _save(base_mapper: Mapper[Any], states: Iterable[State], uow: Any) -> None:
    """Save objects with the steps of SQLAlchemy's ``save_obj``, and :func:`insert_records` in
    place of its INSERT.
    """
    run: FlushRun = uow.seqreserve
    states = list(states)
    way = run.way_of_all(uow, base_mapper, states)
    if way is not None:
        run.save(base_mapper, states, uow, way)
        return
    if any(
        watches_insert(mapper) or watches_update(mapper)
        for mapper in {state.manager.mapper for state in states}
    ):
        run.settle()
    updates: list[Any] = []
    inserts = _organize_reserved(base_mapper, states, uow)
    if inserts is None:
        inserts = []
        for (
            state,
            row,
            mapper,
            connection,
            has_identity,
            row_switch,
            version,
        ) in organize_states_for_save(base_mapper, states, uow):
            if has_identity or row_switch:
                updates.append((state, row, mapper, connection, version))
            else:
                inserts.append((state, row, mapper, connection))
        if run.keys.generations:
            inserts.sort(key=lambda record: run.keys.order(record[0]))
    for table, mapper in tables_in_order(base_mapper):
        if updates:
            commands = collect_update_commands(uow, table, updates)
            run.queue(updates[0][3], uow).update(
                base_mapper, mapper, table, commands, together=run.settings.mode == "bulk"
            )
        if inserts:
            insert_records(base_mapper, table, inserts, uow)
    _finalize(base_mapper, uow, inserts, updates)
    if uow.cycles:
        # SQLAlchemy's own actions for single objects run next.
        run.settle()


def _organize_reserved(
    base_mapper: Mapper[Any], states: Sequence[State], uow: Any
) -> list[Record] | None:
    """The records that SQLAlchemy's first pass would return, if that pass has nothing to do for
    them; ``None`` if it has.

    An object whose key was reserved a moment ago cannot be a row switch, because no other object
    has its key.
    """
    run: FlushRun = uow.seqreserve
    if not run.keys.reserved.issuperset(states) or any(
        map(watches_insert, base_mapper.self_and_descendants)
    ):
        return None
    connection = run.connection_for(uow, base_mapper)
    records = [
        (state, state.dict, state.manager.mapper, connection) for state in run.keys.in_order(states)
    ]
    check_polymorphic_identities(records)
    return records


def _finalize(
    base_mapper: Mapper[Any], uow: Any, inserts: list[Record], updates: list[Any]
) -> None:
    """Run SQLAlchemy's last pass: ``after_insert``, ``after_update``, and the expiry of values that
    the database computes.
    """
    if any(map(has_work_after_insert, {record[2] for record in inserts})) or any(
        map(has_work_after_update, {record[2] for record in updates})
    ):
        uow.seqreserve.drain()
        finalize_saved(
            base_mapper,
            uow,
            [
                *((*record, False) for record in inserts),
                *((*record[:4], True) for record in updates),
            ],
        )
