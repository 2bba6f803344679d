"""The keys that a flush gives to its new objects before they are inserted. They are removed again
if the database must number a row itself, and if the flush fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .._ids.keys import KeySequence, check_range
from .._rows.python_defaults import FilledValues
from .._sqlalchemy.unit_of_work import State

Record: TypeAlias = tuple[State, dict[str, Any], Mapper[Any], Connection]
"""A state to insert, as SQLAlchemy's own steps pass it: with its dictionary, mapper and
connection.
"""

_maximum: Final = attrgetter("maximum")
_insert_order: Final = attrgetter("insert_order")


class ReservedKeys:
    """The keys of one flush."""

    def __init__(self) -> None:
        self.reserved: set[State] = set()
        """Objects whose key was reserved by this flush."""
        self.generations: dict[State, int] = {}
        """The number of parents above an object, if objects refer to their own class."""
        self.sources: dict[Mapper[Any], KeySequence] = {}
        """Where the keys of each class come from, as far as this was looked up."""
        self.released = False
        """Whether the database numbers objects whose keys had been reserved."""
        self._given: dict[Mapper[Any], dict[str, list[State]]] = {}
        self._had_none: set[tuple[State, str]] = set()
        self._defaults: list[tuple[str, list[State]]] = []
        """Defaults that objects got before their INSERT, by attribute."""

    def hand_out(self, sharing: dict[KeySequence, list[State]], ids: list[Any]) -> None:
        """Set the ids of one sequence, or the values of one default, on the objects of the classes
        that share it, in the order in which SQLAlchemy inserts them.
        """
        if len(sharing) > 1:
            sources = {state: source for source, states in sharing.items() for state in states}
            ordered = self.in_order(sources)
            if len(set(map(_maximum, sharing))) > 1:
                for state, value in zip(ordered, ids, strict=True):
                    check_range(sources[state], [value])
            value_of = dict(zip(ordered, ids, strict=True))
        for source, states in sharing.items():
            states = self.in_order(states)
            values = ids if len(sharing) == 1 else [value_of[state] for state in states]
            if source.to_python is not None:
                values = list(map(source.to_python, values))
            attribute = source.key.attribute
            for state, value in zip(states, values, strict=True):
                row = state.dict
                if attribute in row:
                    self._had_none.add((state, attribute))
                row[attribute] = value
            self.reserved.update(states)
            self._given.setdefault(source.key.mapper, {})[attribute] = states

    def order(self, state: State) -> tuple[int, int]:
        """The sort key that orders objects as SQLAlchemy inserts them: parents of a class before
        their children, and then in the order of ``add()``.
        """
        return self.generation(state), state.insert_order or 0

    def generation(self, state: State) -> int:
        """The number of parents above an object."""
        return self.generations.get(state, 0)

    def in_order(self, states: Iterable[State]) -> list[State]:
        """New objects in the order in which SQLAlchemy inserts them."""
        return sorted(states, key=self.order if self.generations else _insert_order)

    def positions(self, mapper: Mapper[Any], states: Sequence[State]) -> dict[str, set[int]]:
        """For each key attribute: the positions of the objects whose value was reserved."""
        found = {}
        for attribute, holders in self._given.get(mapper, {}).items():
            mine = self.reserved.intersection(holders)
            found[attribute] = {i for i, state in enumerate(states) if state in mine}
        return found

    def numbers(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether the key of the class is generated in ``table`` (and not in a parent's table)."""
        source = self.sources.get(mapper)
        return source is not None and source.key.table is table

    def is_always_identity(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether ``table`` numbers the class by ``GENERATED ALWAYS``, so that only COPY may
        write a reserved key.
        """
        source = self.sources.get(mapper)
        return source is not None and source.refuses_keys and source.key.table is table

    def release(self, records: Iterable[Record], *, needed: bool = False) -> bool:
        """Remove the reserved keys of rows that COPY cannot write, so that the database numbers
        them, as with SQLAlchemy alone: an INSERT with known keys may cast their values differently,
        and ``GENERATED ALWAYS`` refuses such keys. Return False if the keys are needed; then only
        the keys that an INSERT refuses are removed.

        :param needed: keep the keys that an INSERT accepts. They are always kept for objects with
            generations.
        """
        needed = needed or bool(self.generations)
        self._release(
            record
            for record in records
            if record[0] in self.reserved and (not needed or self.sources[record[2]].refuses_keys)
        )
        return not needed

    def note_defaults(self, defaults: Mapping[str, FilledValues], states: Sequence[State]) -> None:
        """Note the defaults that objects are about to get before their INSERT, so that a failed
        flush takes them off.
        """
        for attribute, filled in defaults.items():
            lacking = [state for at, state in enumerate(states) if filled.is_default(at)]
            self._had_none.update(
                (state, attribute) for state in lacking if attribute in state.dict
            )
            self._defaults.append((attribute, lacking))

    def take_off(self, written: set[State]) -> None:
        """Remove the keys of objects that were not inserted, and their defaults, as SQLAlchemy's
        failed flush leaves them.

        :param written: the objects that keep their key.
        """
        given = [one for found in self._given.values() for one in found.items()]
        for attribute, states in [*given, *self._defaults]:
            self._take_off(attribute, [state for state in states if state not in written])

    def _release(self, records: Iterable[Record]) -> None:
        by_mapper: dict[Mapper[Any], list[State]] = {}
        for state, _, mapper, _ in records:
            by_mapper.setdefault(mapper, []).append(state)
            self.released = True
        for mapper, states in by_mapper.items():
            given = self._given.get(mapper, {})
            for attribute, holders in given.items():
                chosen = states
                if len(given) > 1:
                    # The user may have set one column of a key with several columns.
                    mine = set(holders)
                    chosen = [state for state in states if state in mine]
                self._take_off(attribute, chosen)

    def _take_off(self, attribute: str, states: Iterable[State]) -> None:
        for state in states:
            if (state, attribute) in self._had_none:
                state.dict[attribute] = None
            else:
                # SQLAlchemy's own steps may have recorded the key as changed.
                state.dict.pop(attribute, None)
                state.committed_state.pop(attribute, None)
            self.reserved.discard(state)
