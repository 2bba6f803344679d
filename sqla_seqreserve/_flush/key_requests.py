"""What a flush asks the sequences for: which objects lack a key that can be reserved, how many ids
each sequence is asked for, and which tables are compared with the first INSERT instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

from sqlalchemy import Connection

from .._drivers import driver_of
from .._ids.keys import KeySequence
from .._ids.prefetch import Shelf, shelf_of
from .._ids.reservation_statement import IdRequest
from .._sqlalchemy.unit_of_work import State

_maximum: Final = attrgetter("maximum")
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
