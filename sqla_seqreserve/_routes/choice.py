"""Chooses how the new objects of a flush are sent.

There are three ways. Beside the work for the rows, each costs these round trips:

*numbered*
    SQLAlchemy's INSERTs, which return the keys: one round trip for each table and thousand rows.
    Many rows of a class with one table go as arrays in one statement, if the driver can do that.
*reserved, one message*
    All keys in one round trip, then all INSERTs in a second one, if the driver can send them so.
*reserved, COPY*
    All keys in one round trip, then one COPY for each table.

The BEGIN of a transaction is a round trip of its own unless it travels along. Keys are reserved at
any cost if somebody could read them before the INSERT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from . import shard_costs

_PAGE: Final = 1000
"""Rows of one of SQLAlchemy's INSERTs (``insertmanyvalues_page_size``)."""

FEWEST_RETURNING: Final = 50
"""From this number of rows with returned values on, arrays are faster than pages of ``VALUES``."""

_ARRAYS_START: Final = 450.0
"""Microseconds of work of an INSERT over arrays that returns the keys, beside its rows. It costs
about the same on all drivers that can do it.
"""

_ARRAYS_ROW: Final = 20.0
"""Microseconds of work of each of its rows."""

_MARGIN: Final = 0.95
"""Another way may cost at most this part of SQLAlchemy's own: measured costs are not exact."""

_COMPARED: Final = 0.8
"""The cost of comparing a class whose keys were kept, as a part of the cost of a reservation."""


@dataclass(frozen=True, slots=True)
class Work:
    """Microseconds of work of the driver and the server beside round trips, measured on a local
    server by ``sqla-seqreserve bench``.

    :param copy_start: for one COPY, beside its rows.
    :param copy_row: for each row of a COPY.
    :param insert_row: for each row of an INSERT whose keys are known.
    :param numbered_row: for each row of an INSERT that returns the keys.
    :param executed_row: for each row of an ``executemany()``.
    :param statement: for a statement that is sent by itself.
    :param reservation: for each class of a reservation.
    """

    copy_start: float
    copy_row: float
    insert_row: float
    numbered_row: float
    executed_row: float
    statement: float
    reservation: float


class Costs(Protocol):
    """What it costs when a driver sends statements to the server."""

    @property
    def begins_along(self) -> bool:
        """Whether the BEGIN of a transaction travels with the first message."""

    @property
    def sends_several(self) -> bool:
        """Whether the INSERTs of a flush travel in one message."""

    @property
    def scripts_return(self) -> bool:
        """Whether an INSERT over arrays can return the keys."""

    @property
    def lock_round_trips(self) -> int:
        """Round trips for the lock of a reservation, in addition to the reservation's own."""

    @property
    def copy_round_trips(self) -> int:
        """Round trips of one COPY."""

    @property
    def work(self) -> Work:
        """The work beside the round trips."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The rows of one class that a flush inserts.

    :param tables: how many tables have a row of each object.
    :param generated: a sequence numbers the class, and at least one key is not set yet.
    :param copies: COPY may write the class.
    :param only_copies: only COPY can write a key that is given (``GENERATED ALWAYS``).
    :param distributed: the rows go to shards on other nodes.
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

    :param reserve: reserve the keys before the first INSERT.
    :param copy_from: from how many rows COPY writes a class; ``None``: from when it costs less.
    :param kept: keys may be kept from an earlier reservation (``prefetch``).
    :param commits: the COMMIT may travel with the last message of INSERTs, or with the only INSERT.
    :param arrays: numbered rows may go as arrays.
    """

    reserve: bool = False
    copy_from: int | None = None
    kept: bool = False
    commits: bool = False
    arrays: bool = False


NO_WISHES: Final = Wishes()


@dataclass(frozen=True, slots=True)
class Route:
    """The chosen way: whether keys are reserved first, and which of the pending classes COPY
    writes, by their positions.
    """

    reserve: bool
    copies: frozenset[int] = frozenset()

    @property
    def is_numbered(self) -> bool:
        """Whether SQLAlchemy's INSERTs write everything, and the server numbers the rows."""
        return not (self.reserve or self.copies)


def choose(
    pending: Sequence[Pending],
    costs: Costs | None,
    round_trip: float,
    *,
    begun: bool,
    wishes: Wishes = NO_WISHES,
) -> Route:
    """The cheapest way of sending these classes.

    :param costs: the driver's costs; ``None``: only SQLAlchemy's own INSERTs are possible.
    :param round_trip: the round trip to the server, in microseconds.
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
    numbered = _numbered(pending, costs, round_trip, begun, wishes)
    # Kept ids are compared in the message of the INSERTs; by themselves they would cost the round
    # trip of a reservation.
    kept = wishes.kept and costs.sends_several
    best, cost = frozenset[int](), math.inf
    for copies in _candidates(pending, may_copy, costs, round_trip):
        found = _reserved(pending, copies, costs, round_trip, begun, kept)
        if wishes.commits and copies == everything:
            found += round_trip
        if found < cost:
            best, cost = copies, found
    # Kept keys are paid for already: using them needs no margin.
    if wishes.reserve or cost < numbered * (1 if kept else _MARGIN):
        return Route(bool(best) or generated, best)
    return Route(False)


def _numbered(
    pending: Sequence[Pending], costs: Costs, round_trip: float, begun: bool, wishes: Wishes
) -> float:
    """Microseconds with INSERTs that return the keys."""
    trips = 0 if begun or costs.begins_along else 1
    work = 0.0
    returns_arrays = costs.scripts_return and wishes.arrays
    if wishes.commits:
        if sum(one.tables for one in pending) > 1:
            trips += 1
        else:
            # The COMMIT travels with it, and only with SQLAlchemy's own INSERT, in pages.
            returns_arrays = False
    for one in pending:
        if returns_arrays and _is_one_statement(one):
            trips += 1
            work += _ARRAYS_START + one.rows * _ARRAYS_ROW
            continue
        pages = math.ceil(one.rows / _PAGE)
        trips += one.tables * pages
        work += one.tables * (pages * costs.work.statement + one.rows * costs.work.numbered_row)
        if one.distributed:
            work += one.tables * shard_costs.numbered(one.rows)
    return trips * round_trip + work


def _is_one_statement(one: Pending) -> bool:
    """Whether the numbered rows of a class go as arrays, if the driver can do that. Tables that
    COPY must not write are not known well enough for arrays either.
    """
    return (
        one.generated
        and one.copies
        and one.tables == 1
        and one.rows >= FEWEST_RETURNING
        and not one.distributed
    )


def _reserved(
    pending: Sequence[Pending],
    copies: frozenset[int],
    costs: Costs,
    round_trip: float,
    begun: bool,
    kept: bool,
) -> float:
    """Microseconds with keys reserved first; COPY writes these classes, INSERT the others."""
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
    # Making and reading the message costs as much as a statement sent by itself.
    return (trips + message) * round_trip + work + message * costs.work.statement


def _candidates(
    pending: Sequence[Pending], may_copy: frozenset[int], costs: Costs, round_trip: float
) -> list[frozenset[int]]:
    """The sets of classes for COPY that are worth comparing: none, those for which COPY costs less
    than INSERT, and all.
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
    """Microseconds of work with COPY beside the round trips, for one table."""
    work = costs.work.copy_start + one.rows * costs.work.copy_row
    return work + shard_costs.by_copy(one.rows) if one.distributed else work


def _insert_work(one: Pending, costs: Costs) -> float:
    """Microseconds for one table's rows by INSERT, with known keys."""
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
    """The number of rows from which COPY is chosen for one class that is alone in its flush.

    :param generated: a sequence numbers the class.
    :param distributed: the rows go to shards on other nodes.
    :param begun: the transaction has begun already.
    """
    low, high = 1, 1_000_000
    while low < high:
        middle = (low + high) // 2
        pending = [Pending(middle, tables, generated, distributed=distributed)]
        route = choose(pending, costs, round_trip, begun=begun, wishes=wishes)
        low, high = (low, middle) if route.copies else (middle + 1, high)
    return low
