"""ReservedIds: a tuple of ids that promises no more than ``nextval`` guarantees."""

from __future__ import annotations

import collections.abc

import pytest

from sqla_seqreserve import ReservedIds

IDS = ReservedIds([3, 4, 9, 10])


def test_it_is_a_sequence() -> None:
    """Indexing, slicing, iteration, containment and reversal work as for any sequence."""
    assert isinstance(IDS, collections.abc.Sequence)
    assert (len(IDS), IDS[0], IDS[-1], list(IDS)) == (4, 3, 10, [3, 4, 9, 10])
    assert list(reversed(IDS)) == [10, 9, 4, 3]
    assert 9 in IDS
    assert 5 not in IDS
    assert (IDS.index(9), IDS.count(4)) == (2, 1)
    with pytest.raises(IndexError):
        IDS[4]


def test_a_slice_is_of_the_same_type() -> None:
    """Part of a reservation is a reservation."""
    assert IDS[1:3] == ReservedIds([4, 9])
    assert isinstance(IDS[:0], ReservedIds)


def test_it_cannot_be_changed() -> None:
    """Neither items nor attributes can be set, so that it may be shared and hashed."""
    assert not isinstance(IDS, collections.abc.MutableSequence)
    with pytest.raises(TypeError):
        IDS[0] = 1  # type: ignore[index]  # what the test is about
    with pytest.raises(AttributeError):
        IDS.extra = 1  # type: ignore[attr-defined]  # what the test is about
    source = [1, 2]
    ids = ReservedIds(source)
    source.append(3)
    assert list(ids) == [1, 2]


def test_equality_is_by_value_and_type() -> None:
    """Two reservations are equal if they hold the same ids in the same order; a list is never
    one.
    """
    assert ReservedIds([1, 2]) == ReservedIds((1, 2))
    assert hash(ReservedIds([1, 2])) == hash(ReservedIds((1, 2)))
    assert ReservedIds([1, 2]) != ReservedIds([2, 1])
    assert ReservedIds([1, 2]) != [1, 2]


def test_the_repr_is_short() -> None:
    """A million ids do not fill a log line."""
    assert repr(ReservedIds()) == "<ReservedIds: 0 []>"
    assert repr(ReservedIds([7, 8])) == "<ReservedIds: 2 [7, 8]>"
    assert repr(ReservedIds(range(1, 1_000_001))) == "<ReservedIds: 1000000 [1, 2, 3, ...]>"
