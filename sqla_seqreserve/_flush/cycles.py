"""Saves a graph of objects that refer to their own classes at once, if its keys are known first.

SQLAlchemy breaks a cycle between mappers up into one action for each object: a chain of 300 new
objects takes 300 INSERTs. If every key is reserved, no cycle is left: the foreign keys are filled
in before anything is written, and the objects of a mapper are saved together, parents before their
children. This is done if all of these conditions hold; otherwise SQLAlchemy saves the objects:

* the relationships of the cycle are simple (:mod:`sqla_seqreserve._flush.synchronize`);
* every object of the classes concerned is new, and nobody listens for its INSERT;
* no object is its own ancestor: SQLAlchemy raises an error for those;
* a row refers to a table that is written before its own, or to its own table, or by a foreign key
  that is checked at the end of the transaction.

Keys are given in the order in which SQLAlchemy would insert, generation by generation, even if
SQLAlchemy then saves the objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import attributes
from sqlalchemy.orm.interfaces import MANYTOONE

from .._sqlalchemy.mapping import tables_in_order
from .._sqlalchemy.unit_of_work import ProcessAll, SaveUpdateAll, State, find_cycles
from .synchronize import Copying, copy_key, copying_of, put_back


class Cycle:
    """The part of a flush in which mappers refer to each other in a cycle.

    ``generations``: for each new object, the number of parents above it.
    """

    def __init__(
        self, uow: Any, actions: set[Any], relationships: list[tuple[Any, Copying]]
    ) -> None:
        self._uow = uow
        self._actions = actions
        self._relationships = relationships
        self.mappers = {copying.processor.parent.base_mapper for _, copying in relationships}
        self.generations = self._count_generations()

    def _pairs(self) -> Iterator[tuple[State, State]]:
        """Each pair of objects of which the second, a child, refers to the first, its parent."""
        for action, copying in self._relationships:
            many_to_one = copying.processor.direction is MANYTOONE
            for state in action._elements(self._uow):
                for related in copying.related_to(state):
                    if related is not None:
                        other = attributes.instance_state(related)
                        yield (other, state) if many_to_one else (state, other)

    def _count_generations(self) -> dict[State, int] | None:
        """The number of parents above each object; ``None`` if an object is its own ancestor."""
        parents: dict[State, set[State]] = {}
        children: dict[State, set[State]] = {}
        for parent, child in self._pairs():
            if parent.key is None:
                parents.setdefault(child, set()).add(parent)
                children.setdefault(parent, set()).add(child)
        found: dict[State, int] = {}
        ready = [state for state in children if state not in parents]
        generation = 0
        while ready:
            following = []
            for state in ready:
                found[state] = generation
                for child in children.get(state, ()):
                    parents[child].discard(state)
                    if not parents[child]:
                        following.append(child)
            ready, generation = following, generation + 1
        return found if not any(parents.values()) else None

    def new_objects(self) -> Iterator[State]:
        """Every new object of the cycle's classes that this flush saves."""
        for mapper in self.mappers:
            for state in self._uow.states_for_mapper_hierarchy(mapper, False, False):
                if state.key is None:
                    yield state

    def saved_whole(
        self, written: set[State], whole: Iterable[Sequence[State]], refused: State | None
    ) -> set[State]:
        """The objects with a row that SQLAlchemy would also have saved before the flush failed: it
        saves a cycle one generation after the other, each in all tables.

        :param written: the objects that have a row.
        :param whole: the objects that have a row in all their tables.
        :param refused: the object that the database refused, if it is known.
        """
        generation = self._uow.seqreserve.keys.generation
        cycle = set(self.new_objects())
        left = [refused] if refused in cycle else cycle.difference(*whole)
        first = min(map(generation, left), default=None)
        if first is None:
            return written
        return written - cycle | {state for state in cycle if generation(state) < first}

    def can_be_saved_at_once(self) -> bool:
        """Whether the cycle can be saved at once as soon as all its keys are known."""
        uow = self._uow
        if self.generations is None:
            return False
        for mapper in self.mappers:
            for cls in mapper.self_and_descendants:
                if cls.dispatch.before_insert or cls.dispatch.after_insert:
                    return False
                for state in uow.mappers.get(cls, ()):
                    is_deleted, is_listed = uow.states[state]
                    if is_deleted or not (is_listed or state.key is None):
                        return False
        return all(self._keeps_constraints(copying) for _, copying in self._relationships)

    def _keeps_constraints(self, copying: Copying) -> bool:
        """Whether the rows of a table may be written together without breaking the relationship's
        foreign keys: each refers to a table written before, to its own, or is deferred.
        """
        order = {
            table: number
            for mapper in self.mappers
            for number, (table, _) in enumerate(tables_in_order(mapper))
        }
        for referred, referring in copying.processor.prop.synchronize_pairs:
            if referred.table is referring.table:
                continue
            same = copying.processor.parent.base_mapper is copying.processor.mapper.base_mapper
            if same and order.get(referred.table, 0) < order.get(referring.table, -1):
                continue
            if not _is_deferred(referring.table, referring, referred):
                return False
        return True

    def save_at_once(self) -> bool:
        """Fill in the foreign keys, and take the cycle out of the flush's order. Return False,
        with nothing changed, if a key is not known or a cycle is left.
        """
        uow, run = self._uow, self._uow.seqreserve
        mark = len(run.copied)
        for action, copying in self._relationships:
            if not all(copy_key(copying, state, uow) for state in action._elements(uow)):
                put_back(run.copied, mark)
                return False
        before = set(uow.dependencies)
        idle = {action for action in self._actions if not isinstance(action, SaveUpdateAll)}
        uow.dependencies = {
            (first, then)
            for first, then in before
            if first is not then
            and not (first in self._actions and then in self._actions and {first, then} & idle)
        }
        if find_cycles(uow):
            uow.dependencies = before
            put_back(run.copied, mark)
            return False
        for action, _ in self._relationships:
            action.disabled = True
        return True

    def copy_keys_again(self) -> None:
        """Fill in the foreign keys again after the database gave objects other keys than those
        reserved.
        """
        for action, copying in self._relationships:
            for state in action._elements(self._uow):
                copy_key(copying, state, self._uow)


def find_cycle(uow: Any) -> Cycle | None:
    """The cycle of a flush; ``None`` if it has none or if its relationships are not simple."""
    # A cycle needs a relationship. This is checked first because finding cycles takes time.
    relates = any(isinstance(action, ProcessAll) for action in uow.postsort_actions.values())
    actions = find_cycles(uow) if relates else None
    if not actions:
        return None
    relationships = []
    for action in actions:
        if isinstance(action, ProcessAll) and not action.isdelete and action.fromparent:
            copying = copying_of(action.dependency_processor, uow.seqreserve.copied)
            if copying is None:
                return None
            relationships.append((action, copying))
        elif isinstance(action, ProcessAll) and not action.isdelete:
            return None
    return Cycle(uow, actions, relationships) if relationships else None


def _is_deferred(table: Any, referring: Any, referred: Any) -> bool:
    """Whether the foreign key is checked at the end of the transaction."""
    if not isinstance(table, Table):
        return False
    return any(
        bool(key.constraint.deferrable) and (key.constraint.initially or "").upper() == "DEFERRED"
        for key in table.foreign_keys
        if key.parent is referring and key.column is referred and key.constraint is not None
    )
