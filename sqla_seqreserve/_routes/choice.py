"""Chooses how the new objects of a flush are sent.

Three ways, and what each costs in round trips beside the work for its rows:

*numbered*
    SQLAlchemy's INSERTs, which bring the keys back: one round trip a table and thousand rows.
*reserved, one message*
    All keys in one round trip, then every INSERT in a second one, where the driver can.
*reserved, COPY*
    All keys in one round trip, then one COPY a table.

The BEGIN of a transaction is a round trip of its own unless it travels along. Keys are reserved
whatever it costs where somebody could look at them before the INSERT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from . import shard_costs

_PAGE: Final = 1000
"""Rows of one of SQLAlchemy's INSERTs (``insertmanyvalues_page_size``)."""

_MARGIN: Final = 0.95
"""What another way may cost of SQLAlchemy's own at the most: measured costs are not exact."""

_COMPARED: Final = 0.8
"""What it takes to compare a class whose keys were kept, beside a reservation for it."""


@dataclass(frozen=True, slots=True)
class Work:
    """Microseconds of work that a driver and the server have beside round trips; measured on a
    local server by ``sqla-seqreserve bench``.

    :param copy_start: of one COPY, beside its rows.
    :param copy_row: of a row by COPY.
    :param insert_row: of a row by an INSERT whose keys are known.
    :param numbered_row: of a row by an INSERT that brings the keys back.
    :param executed_row: of a row in an ``executemany()``.
    :param statement: of a statement that is sent by itself.
    :param reservation: of a reservation, a class.
    """

    copy_start: float
    copy_row: float
    insert_row: float
    numbered_row: float
    executed_row: float
    statement: float
    reservation: float


class Costs(Protocol):
    """What a driver's way of talking to the server costs."""

    @property
    def begins_along(self) -> bool:
        """Whether the BEGIN of a transaction travels with the first message."""

    @property
    def sends_several(self) -> bool:
        """Whether the INSERTs of a flush travel in one message."""

    @property
    def lock_round_trips(self) -> int:
        """Round trips of the lock that a reservation takes, beside its own."""

    @property
    def copy_round_trips(self) -> int:
        """Round trips of one COPY."""

    @property
    def work(self) -> Work:
        """Beside the round trips."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What a flush inserts of one class.

    :param tables: how many tables an object of it has a row in.
    :param generated: a sequence numbers it, and at least one key is not set yet.
    :param copies: COPY may write it.
    :param only_copies: a key that is given must be written by COPY (``GENERATED ALWAYS``).
    :param distributed: its rows go to shards on other nodes.
    """

    rows: int
    tables: int = 1
    generated: bool = True
    copies: bool = True
    only_copies: bool = False
    distributed: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for, whatever it costs.

    :param reserve: keys before the first INSERT.
    :param copy_from: how many rows of a class are written by COPY; ``None``: where it pays.
    :param kept: how many keys are at hand without asking (``prefetch``).
    :param commits: the COMMIT may travel with the last message of INSERTs, or with the only INSERT.
    """

    reserve: bool = False
    copy_from: int | None = None
    kept: bool = False
    commits: bool = False


NO_WISHES: Final = Wishes()


@dataclass(frozen=True, slots=True)
class Route:
    """The way that was chosen: whether keys are reserved first, and which of the pending classes
    are written by COPY.
    """

    reserve: bool
    copies: frozenset[int] = frozenset()


def choose(
    pending: Sequence[Pending],
    costs: Costs | None,
    round_trip: float,
    *,
    begun: bool,
    wishes: Wishes = NO_WISHES,
) -> Route:
    """The cheapest way of sending these classes.

    :param costs: the driver's costs; ``None``: it can do nothing beside SQLAlchemy's own INSERTs.
    :param round_trip: to the server, in microseconds.
    :param begun: the transaction has begun already.
    """
    everything = frozenset(range(len(pending)))
    if costs is None:
        return Route(wishes.reserve)
    may_copy = frozenset(number for number in everything if pending[number].copies)
    if wishes.copy_from is not None:
        copies = frozenset(n for n in may_copy if pending[n].rows >= wishes.copy_from)
        if copies:
            return Route(True, copies)
        may_copy = frozenset()
    generated = any(one.generated and not one.only_copies for one in pending)
    numbered = _numbered(pending, costs, round_trip, begun)
    if wishes.commits and sum(one.tables for one in pending) > 1:
        numbered += round_trip
    # Kept ids are compared in the message of the INSERTs; alone they take a reservation's trip.
    kept = wishes.kept and costs.sends_several
    best, cost = frozenset[int](), math.inf
    for copies in _candidates(pending, may_copy, costs, round_trip):
        found = _reserved(pending, copies, costs, round_trip, begun, kept)
        if wishes.commits and copies == everything:
            found += round_trip
        if found < cost:
            best, cost = copies, found
    # Keys at hand have been paid for: using them costs nothing that a margin is for.
    if wishes.reserve or cost < numbered * (1 if kept else _MARGIN):
        return Route(bool(best) or generated, best)
    return Route(False)


def _numbered(pending: Sequence[Pending], costs: Costs, round_trip: float, begun: bool) -> float:
    """Microseconds by INSERTs that bring the keys back."""
    trips = 0 if begun or costs.begins_along else 1
    work = 0.0
    for one in pending:
        pages = math.ceil(one.rows / _PAGE)
        trips += one.tables * pages
        work += one.tables * (pages * costs.work.statement + one.rows * costs.work.numbered_row)
        if one.distributed:
            work += one.tables * shard_costs.numbered(one.rows)
    return trips * round_trip + work


def _reserved(
    pending: Sequence[Pending],
    copies: frozenset[int],
    costs: Costs,
    round_trip: float,
    begun: bool,
    kept: bool,
) -> float:
    """Microseconds with keys reserved first, these classes by COPY and the others by INSERT."""
    trips = 0 if begun or costs.begins_along else 1
    work = 0.0
    if copies or not kept:
        trips += 1 + costs.lock_round_trips
        work += costs.work.reservation * len(pending)
    else:
        work += _COMPARED * costs.work.reservation * sum(one.generated for one in pending)
    message = 0
    for number, one in enumerate(pending):
        if number in copies:
            trips += _copy_trips(one, costs) * one.tables
            work += one.tables * _copy_work(one, costs)
        elif costs.sends_several:
            message = 1
            work += one.tables * _insert_work(one, costs)
        else:
            trips += one.tables
            work += one.tables * (costs.work.statement + _insert_work(one, costs))
    # The message is put together and read as a statement by itself is.
    return (trips + message) * round_trip + work + message * costs.work.statement


def _candidates(
    pending: Sequence[Pending], may_copy: frozenset[int], costs: Costs, round_trip: float
) -> list[frozenset[int]]:
    """The sets of classes worth comparing: none, each for which COPY saves more than its own round
    trips cost, all.
    """
    pays = frozenset(
        number
        for number in may_copy
        if _copy_trips(pending[number], costs) * round_trip + _copy_work(pending[number], costs)
        < _insert_work(pending[number], costs)
    )
    return [frozenset(), pays, may_copy]


def _copy_trips(one: Pending, costs: Costs) -> int:
    return costs.copy_round_trips + (shard_costs.COPY_ROUND_TRIPS if one.distributed else 0)


def _copy_work(one: Pending, costs: Costs) -> float:
    """Microseconds beside the round trips, for one table."""
    work = costs.work.copy_start + one.rows * costs.work.copy_row
    return work + shard_costs.by_copy(one.rows) if one.distributed else work


def _insert_work(one: Pending, costs: Costs) -> float:
    """Microseconds for one table's rows, their keys known."""
    work = one.rows * costs.work.insert_row
    return work + shard_costs.by_insert(one.rows) if one.distributed else work


def copy_crossover(
    costs: Costs,
    round_trip: float,
    tables: int = 1,
    *,
    generated: bool = True,
    begun: bool = True,
    wishes: Wishes = NO_WISHES,
    distributed: bool = False,
) -> int:
    """From how many rows of one class, alone in its flush, COPY is chosen.

    :param generated: a sequence numbers the class.
    :param distributed: its rows go to shards on other nodes.
    :param begun: the transaction has begun already.
    """
    low, high = 1, 1_000_000
    while low < high:
        middle = (low + high) // 2
        pending = [Pending(middle, tables, generated, distributed=distributed)]
        route = choose(pending, costs, round_trip, begun=begun, wishes=wishes)
        low, high = (low, middle) if route.copies else (middle + 1, high)
    return low
