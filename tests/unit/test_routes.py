"""The route of a flush is a calculation from rows, tables, a driver's costs and the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from sqla_seqreserve._routes import Distance, Pending, Route, Wishes, Work, choose, copy_crossover

NEAR, FAR = 60.0, 5_000.0


@dataclass(frozen=True)
class Wire:
    """Costs like those of a driver that can send everything in one message."""

    begins_along: bool = True
    sends_several: bool = True
    scripts_return: bool = False
    lock_round_trips: int = 0
    copy_round_trips: int = 2
    work: Work = Work(  # noqa: RUF009  # it cannot be changed
        copy_start=150.0,
        copy_row=3.0,
        insert_row=14.0,
        numbered_row=22.0,
        executed_row=20.0,
        statement=150.0,
        reservation=80.0,
    )


ABLE = Wire()
PLAIN = Wire(begins_along=False, sends_several=False, copy_round_trips=1)


@pytest.mark.parametrize("round_trip", [NEAR, FAR])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("wire", [ABLE, PLAIN])
def test_one_object_is_numbered_by_its_insert(wire: Wire, begun: bool, round_trip: float) -> None:
    """Nothing is reserved for one object of one table: the INSERT brings its key back."""
    assert choose([Pending(1)], wire, round_trip, begun=begun) == Route(False)


def test_keys_of_several_tables_come_first_where_the_inserts_share_a_message() -> None:
    """Three tables take two round trips with their keys reserved, and three without."""
    three = [Pending(1)] * 3
    assert choose(three, ABLE, FAR, begun=False) == Route(True)
    assert choose(three, PLAIN, FAR, begun=False) == Route(False)


@pytest.mark.parametrize("wire", [ABLE, PLAIN])
@pytest.mark.parametrize("round_trip", [NEAR, FAR])
def test_many_rows_go_by_copy(wire: Wire, round_trip: float) -> None:
    """COPY pays for its round trips with enough rows, and not with fewer than the crossover."""
    rows = copy_crossover(wire, round_trip)
    assert choose([Pending(rows)], wire, round_trip, begun=True) == Route(True, frozenset({0}))
    assert not choose([Pending(rows - 1)], wire, round_trip, begun=True).copies
    assert 1 < rows < 5_000


def test_many_rows_far_away_are_numbered_over_arrays() -> None:
    """Far away, an INSERT over arrays takes less than a reservation and COPY, which take two more
    round trips; COPY still writes very many rows, and near the server all of these.
    """
    arrays = Wire(begins_along=False, scripts_return=True)
    for rows, copies in ((500, False), (5_000, True)):
        route = choose([Pending(rows)], arrays, FAR, begun=False, wishes=Wishes(arrays=True))
        assert bool(route.copies) is copies
    for wire in (arrays, Wire(begins_along=False)):
        near = choose([Pending(500)], wire, NEAR, begun=False, wishes=Wishes(arrays=True))
        assert near == Route(True, frozenset({0}))


def test_an_insert_that_takes_the_commit_along_stays_in_pages() -> None:
    """The COMMIT travels with SQLAlchemy's own INSERT only, whose rows cost more than arrays."""
    arrays = Wire(scripts_return=True, work=replace(Wire.work, numbered_row=46.0, copy_start=300.0))
    by_arrays, in_pages = (
        choose([Pending(500)], arrays, FAR, begun=False, wishes=wishes)
        for wishes in (Wishes(arrays=True), Wishes(arrays=True, commits=True))
    )
    assert (by_arrays.reserve, in_pages.reserve) == (False, True)


def test_the_crossover_grows_with_the_distance() -> None:
    """The farther the server, the more rows COPY needs to be cheaper."""
    found = [copy_crossover(ABLE, distance) for distance in (NEAR, 1_000.0, FAR)]
    assert found == sorted(set(found))


def test_what_cannot_be_copied_is_not() -> None:
    """A class that COPY may not write is left to INSERT even with very many rows; others
    are not.
    """
    route = choose([Pending(100_000, copies=False), Pending(100_000)], ABLE, NEAR, begun=True)
    assert route == Route(True, frozenset({1}))


@pytest.mark.parametrize("wire", [ABLE, PLAIN, None])
def test_keys_that_are_asked_for_are_reserved(wire: Wire | None) -> None:
    """``reserve="always"`` reserves keys whatever that costs, on every driver."""
    wishes = Wishes(reserve=True)
    assert choose([Pending(1)], wire, NEAR, begun=False, wishes=wishes).reserve


def test_nothing_is_reserved_where_nothing_is_generated() -> None:
    """If the user has set all keys, nothing is reserved, even with ``reserve="always"``."""
    wishes = Wishes(reserve=True)
    pending = [Pending(1, generated=False)]
    assert choose(pending, ABLE, NEAR, begun=False, wishes=wishes) == Route(False)


@pytest.mark.parametrize(("rows", "copies"), [(4, frozenset()), (5, {0}), (6, {0})])
def test_a_number_of_rows_that_is_asked_for_decides(rows: int, copies: set[int]) -> None:
    """If copy_min_rows is set, it alone decides whether COPY writes, near and far."""
    for round_trip in (NEAR, FAR):
        wishes = Wishes(copy_from=5)
        assert choose([Pending(rows)], ABLE, round_trip, begun=False, wishes=wishes).copies == (
            copies
        )
    many = choose([Pending(1_000_000)], ABLE, NEAR, begun=False, wishes=Wishes(copy_from=1_000_001))
    assert many.copies == frozenset()


def test_kept_keys_save_the_reservation() -> None:
    """If keys are kept ahead, two tables go in one message; one object's INSERT returns its key."""
    two = [Pending(1)] * 2
    assert choose(two, ABLE, FAR, begun=True, wishes=Wishes(kept=True)) == Route(True)
    assert choose(two, ABLE, FAR, begun=True) == Route(False)
    for round_trip in (NEAR, FAR):
        one = choose([Pending(1)], ABLE, round_trip, begun=False, wishes=Wishes(kept=True))
        assert one == Route(False)


def test_an_unknown_driver_sends_what_plain_sends() -> None:
    """On an unknown driver nothing is copied, and keys are reserved only if that is set."""
    assert choose([Pending(100_000)], None, NEAR, begun=False) == Route(False)


def settled(seconds: float) -> Distance:
    """A distance for which this time was measured several times."""
    distance = Distance()
    for _ in range(10):
        distance.note(seconds)
    return distance


def test_what_is_spared_must_cost_more_than_sparing_it() -> None:
    """A BEGIN or a COMMIT travels along unless the server is near: a BEGIN from a shorter distance,
    a COMMIT from a longer one for each row counted before it; an unknown distance may be far.
    """
    unknown, same_core, same_machine, network = (
        Distance(),
        *(settled(seconds) for seconds in (0.000_02, 0.000_1, 0.000_5)),
    )
    every = (unknown, same_core, same_machine, network)
    assert [each.begin_pays() for each in every] == [True, False, True, True]
    assert [each.commit_pays() for each in every] == [True, False, False, True]
    assert not network.commit_pays(counted=100)


@pytest.mark.parametrize("waited", [0.05, 2.0, 3600.0])
@pytest.mark.parametrize("before", [0, 1, 10])
def test_one_long_time_never_counts(waited: float, before: int) -> None:
    """A single long time, the first or a later one, does not raise the distance."""
    for note in (Distance.note, Distance.note_bound):
        distance = Distance()
        for _ in range(before):
            note(distance, 0.000_2)
        known = distance.round_trip
        note(distance, waited)
        assert distance.round_trip <= (known if before else 1_200)
        note(distance, 0.000_2)
        assert distance.round_trip <= max(known, 300)


@pytest.mark.parametrize(("before", "after"), [(0.000_2, 0.02), (0.02, 0.000_2)])
def test_another_distance_is_noticed_within_some_flushes(before: float, after: float) -> None:
    """A network that becomes slower or faster is noticed within 25 flushes; after that each flush
    uses the new distance.
    """
    distance = settled(before)
    flushes = 0
    while flushes < 100:
        flushes += 1
        if distance.is_due():
            distance.note(after)
            if distance.round_trip == pytest.approx(after * 1e6, rel=0.5):
                break
    assert flushes <= 25
    assert distance.rounded == distance.round_trip


def test_what_may_have_waited_lowers_a_distance_and_does_not_raise_it() -> None:
    """Times that may include a wait for a lock do not raise the distance; a shorter one
    lowers it.
    """
    distance = settled(0.005)
    for _ in range(20):
        distance.note_bound(2.0)
    assert distance.round_trip == pytest.approx(5_000, rel=0.05)
    distance.note_bound(0.002, round_trips=2)
    assert distance.round_trip == pytest.approx(1_000)


def test_what_may_have_waited_counts_where_nothing_else_is_known() -> None:
    """If no BEGIN was timed, times that may include a wait for a lock give the distance."""
    distance = Distance()
    for _ in range(30):
        distance.note_bound(0.005)
    assert distance.round_trip == pytest.approx(5_000)


@pytest.mark.parametrize("round_trip", [NEAR, FAR])
@pytest.mark.parametrize("wire", [ABLE, PLAIN])
def test_rows_of_many_shards_go_by_copy_later(wire: Wire, round_trip: float) -> None:
    """COPY goes from shard to shard, so it needs more rows to be cheaper than in an
    ordinary table.
    """
    found = copy_crossover(wire, round_trip, distributed=True)
    assert 20 < found < 1_000
    assert found > copy_crossover(wire, NEAR)


@pytest.mark.parametrize("round_trip", [NEAR, FAR])
@pytest.mark.parametrize("begun", [False, True])
def test_a_few_rows_of_many_shards_are_sent_with_known_keys(round_trip: float, begun: bool) -> None:
    """In a distributed table one row is numbered by its INSERT, but several get reserved keys: an
    INSERT that returns keys would ask every shard.
    """
    assert choose([Pending(1, distributed=True)], ABLE, round_trip, begun=begun) == Route(False)
    assert choose([Pending(10, distributed=True)], ABLE, NEAR, begun=begun) == Route(True)


@pytest.mark.parametrize("wire", [ABLE, PLAIN])
@pytest.mark.parametrize("rows", [2, 20, 100, 500])
def test_several_rows_of_many_shards_are_never_numbered_by_one_insert(
    wire: Wire, rows: int
) -> None:
    """Several rows of a distributed table get reserved keys, because Citus would open a connection
    per shard for one INSERT.
    """
    for begun in (False, True):
        route = choose([Pending(rows, distributed=True)], wire, NEAR, begun=begun)
        assert route.reserve
        assert bool(route.copies) == (rows >= 100)


def test_many_rows_that_copy_refuses_stay_with_their_insert() -> None:
    """If COPY cannot write thousands of rows of a distributed table, one INSERT numbers them: it
    costs less than a message per row.
    """
    many = [Pending(10_000, copies=False, distributed=True)]
    assert choose(many, ABLE, NEAR, begun=True) == Route(False)


def test_what_was_chosen_at_a_distance_has_a_bound() -> None:
    """The memory of chosen routes is bounded, even if no time is ever measured, and another
    distance empties it.
    """
    distance = Distance()
    for number in range(10_000):
        assert distance.keep(number, str(number)) == str(number)
        assert distance.chosen[number] == str(number)
    assert len(distance.chosen) <= 300
    for _ in range(5):
        distance.note(0.005)
    assert distance.chosen == {}
