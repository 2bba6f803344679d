"""What a flush asks the sequences for: which objects lack a key that can be reserved, how many ids
each sequence is asked for, which tables keep objects from them, and which are compared with the
first INSERT instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .._drivers import driver_of
from .._ids.catalogue import TableFacts
from .._ids.keys import KeySequence, lacks_key
from .._ids.prefetch import Shelf, shelf_of
from .._ids.reservation_statement import IdRequest
from .._sqlalchemy.unit_of_work import State
from .way import Way

_maximum: Final = attrgetter("maximum")
_insert_order: Final = attrgetter("insert_order")
_expired: Final = attrgetter("expired_attributes")

Sharing: TypeAlias = dict[KeySequence, list[State]]
"""The keys that one sequence fills, each with the objects that lack it."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """The ids that one sequence is asked for.

    :param sharing: the objects that get these ids.
    :param shelf: holds the ids that are kept for later flushes.
    """

    ids: IdRequest
    sharing: Sharing
    shelf: Shelf


def may_be_reserved(source: KeySequence, *, copies: bool) -> bool:
    """Whether a key can be reserved and then written. Some tables accept one only from COPY."""
    return source.is_reservable and (copies or not source.refuses_keys)


def lacking_any(attributes: Sequence[str], states: Sequence[State]) -> list[State]:
    """The objects that lack any of these attributes of their key."""
    if len(attributes) == 1:
        [only] = attributes
        found = [state for state in states if state.dict.get(only) is None]
    else:
        found = [
            state
            for state in states
            if any(state.dict.get(attribute) is None for attribute in attributes)
        ]
    if any(map(_expired, found)):
        # SQLAlchemy would load a key that a rolled back savepoint has expired, and fail.
        found = [state for state in found if state.expired_attributes.isdisjoint(attributes)]
    return found


def kept_out(
    sources: Mapping[Mapper[Any], KeySequence],
    pending: Mapping[Mapper[Any], Sequence[State]],
    ways: Mapping[Mapper[Any], Way],
) -> dict[str, tuple[TableFacts, int]]:
    """The tables, by name, whose facts prevent COPY or reserved keys for a class, each with the
    facts and the number of objects.
    """
    found: dict[str, tuple[TableFacts, int]] = {}
    for mapper, way in ways.items():
        if way.writer != "copy" and way.plans:
            *_, last = way.plans.values()
            found[last.facts.name] = last.facts, len(pending[mapper])
    for mapper, states in pending.items():
        source, chosen = sources[mapper], ways.get(mapper)
        copies = chosen is not None and chosen.writer == "copy"
        if source.facts is not None and not may_be_reserved(source, copies=copies):
            found.setdefault(source.facts.name, (source.facts, len(states)))
    return found


def numbered_beside(
    sources: Mapping[Mapper[Any], KeySequence],
    pending: Mapping[Mapper[Any], Sequence[State]],
    lacking: Iterable[Sharing],
) -> set[Mapper[Any]]:
    """The classes whose keys could be reserved, but in whose table the database numbers objects of
    another class that were added before: those would get larger ids than objects added later.
    """
    if len(pending) < 2:
        return set()
    reserved: dict[Table | None, dict[Mapper[Any], Sequence[State]]] = {}
    for sharing in lacking:
        for one, held in sharing.items():
            reserved.setdefault(one.key.table, {})[one.key.mapper] = held
    found: set[Mapper[Any]] = set()
    for mapper, states in pending.items():
        others = reserved.get(sources[mapper].key.table, {})
        if others and mapper not in others and lacks_key(mapper, states):
            first = min(map(_insert_order, states))
            if any(_insert_order(state) > first for added in others.values() for state in added):
                found.update(others)
    return found


def without(mappers: Collection[Mapper[Any]], lacking: Iterable[Sharing]) -> list[Sharing]:
    """The objects that lack a key, without those of these classes."""
    found = (
        {one: states for one, states in sharing.items() if one.key.mapper not in mappers}
        for sharing in lacking
    )
    return list(filter(None, found))


def key_requests(
    connection: Connection, wanted: Iterable[Sharing], prefetch: int, *, asks_anyway: bool
) -> list[KeyRequest]:
    """The request to each sequence.

    :param prefetch: the number of ids to keep for later flushes.
    :param asks_anyway: a message is sent even if enough ids are kept.
    """
    driver = driver_of(connection.dialect)
    # On other drivers the comparison of kept ids costs the round trip that they save.
    travels = driver is not None and driver.sends_several
    found = []
    for sharing in wanted:
        source = max(sharing, key=_maximum)
        shelf = shelf_of(connection, source, prefetch if travels else 0)
        count = shelf.lacking(sum(map(len, sharing.values())), asks_anyway=asks_anyway)
        request = IdRequest(source, count, is_kept=bool(shelf.ahead))
        found.append(KeyRequest(request, sharing, shelf))
    return found


def not_compared(requests: Sequence[KeyRequest], sent: Collection[str]) -> list[KeySequence]:
    """The keys whose tables are compared neither by themselves nor by a request for ids.

    :param sent: names of the tables that are compared by themselves.
    """
    # The last that shares a sequence's ids speaks for its table.
    unsure: dict[tuple[str, int], KeySequence] = {
        (one.facts.name, number): one
        for number, request in enumerate(requests)
        for one in request.sharing
        if one.facts
    }
    found = []
    for (name, number), one in unsure.items():
        ids = requests[number].ids
        # A request for ids also compares the table that the sequence belongs to.
        own = getattr(ids.source.facts, "name", None)
        if not ids.count or (name not in sent and name != own):
            found.append(one)
    return found
