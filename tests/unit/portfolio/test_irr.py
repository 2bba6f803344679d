"""The rate of return: worked examples, closed forms, two other libraries on thousands of lists."""

import math
import warnings
from collections.abc import Sequence
from decimal import Decimal
from inspect import signature
from random import Random
from typing import Any

import numpy as np
import numpy_financial
import pytest
import pyxirr
from hypothesis import given
from hypothesis import strategies as st

from sqla_seqreserve.errors import SeqReserveError
from sqla_seqreserve.portfolio.errors import (
    IrrError,
    NoRateError,
    OneSidedFlowsError,
    RateOutOfRangeError,
    TooFewFlowsError,
)
from sqla_seqreserve.portfolio.irr import MAX_IRR, annual_irr, annual_irrs, round_irr


@pytest.mark.parametrize(
    ("flows", "rate"),
    [
        ([-10000, 0, 10100], 5.98507),
        ([-10000, 10100], 12.0),
        ([-1000] * 6 + [6300], 16.7478),
    ],
)
def test_worked_examples(flows: list[float], rate: float) -> None:
    """The worked examples come out to the digits that they are given in."""
    assert annual_irr(flows) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(
    ("monthly", "months"),
    [
        (monthly, months)
        for monthly in (-0.99, -0.5, -0.01, -1e-6, 0.0, 1e-6, 0.005, 0.3, 2.0, 500.0)
        for months in (1, 2, 12, 119, 600)
        # What lies beyond cannot be stored as an amount.
        if -10 < months * math.log10(1 + monthly) < 10
    ],
)
def test_one_payment_and_its_value(monthly: float, months: int) -> None:
    """One payment and its value n months on: the rate is the n-th root of their ratio, less one."""
    flows = [-1e4] + [0.0] * (months - 1) + [1e4 * (1 + monthly) ** months]
    assert annual_irr(flows) == pytest.approx(1200 * monthly, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("monthly", [-0.03, 0.002, 0.01, 0.2])
@pytest.mark.parametrize("months", [2, 24, 240])
def test_level_savings(monthly: float, months: int) -> None:
    """Equal payments: the value is the annuity's closed form at the rate."""
    value = 250 * ((1 + monthly) ** months - 1) / monthly * (1 + monthly)
    assert annual_irr([-250.0] * months + [value]) == pytest.approx(1200 * monthly, rel=1e-9)


@pytest.mark.parametrize("monthly", [-0.01, 0.004])
def test_bond(monthly: float) -> None:
    """A bond bought at par yields its coupon."""
    assert annual_irr([-1000.0] + [1000 * monthly] * 59 + [1000 * (1 + monthly)]) == pytest.approx(
        1200 * monthly, rel=1e-9
    )


@pytest.mark.parametrize(
    ("roots", "nearest"),
    [
        ((0.1, 0.2), 0.1),
        ((-0.1, 0.2), -0.1),
        ((-0.3, -0.2), -0.2),
        ((0.02, -0.01, 0.5), -0.01),
        ((0.30, 0.3001, 0.31), 0.30),
        ((-0.0501, 0.05), 0.05),
        ((-0.05, 0.0501), -0.05),
        ((0.0, 0.1, -0.1), 0.0),
        ((4.0, 2.0, 1.0), 1.0),
    ],
)
def test_rate_nearest_zero_counts(roots: tuple[float, ...], nearest: float) -> None:
    """Of several rates that balance the flows, the one nearest zero is returned."""
    flows = [-1e6]
    for root in roots:
        shifted = [0.0, *flows]
        flows = [
            later - (1 + root) * now for later, now in zip([*flows, 0.0], shifted, strict=True)
        ]
    assert annual_irr(flows) == pytest.approx(1200 * nearest, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("root", [-0.2, 0.1, 0.5])
def test_rate_touched_without_crossing(root: float) -> None:
    """A double rate, where the present value touches zero without changing sign, is found."""
    growth = 1 + root
    flows = [-1000.0, 2000 * growth, -1000 * growth**2]
    assert annual_irr(flows) == pytest.approx(1200 * root, rel=1e-5)


@pytest.mark.parametrize("flows", [[], [0], [0, 0, 0], [0.009, -0.009], [Decimal("0.0099")]])
def test_nothing_to_speak_of_is_zero(flows: Sequence[float]) -> None:
    """No flow, or none of a cent or more, is a rate of 0.0."""
    assert annual_irr(flows) == 0.0


def test_negligible_months_count_as_zero() -> None:
    """A month under a cent does not change the rate, however it lies."""
    assert annual_irr([0.004, -1000, 0.009, 1020.1, -0.009]) == annual_irr([-1000, 0, 1020.1])


def test_decimals_are_flows() -> None:
    """Flows may be decimals."""
    assert annual_irr([Decimal(-10000), Decimal(10100)]) == pytest.approx(12)


@pytest.mark.parametrize(
    ("flows", "error", "message"),
    [
        ([-1000], TooFewFlowsError, "two months or more"),
        ([0, 1000, 0], TooFewFlowsError, "only month 1"),
        ([-1000, 0.001], TooFewFlowsError, "only month 0"),
        ([1000, 2000], OneSidedFlowsError, "in none of the 2 months"),
        ([-1000, -2000, -1], OneSidedFlowsError, "out"),
        ([-1000, 1000, -1000], NoRateError, "no rate"),
        ([-1000, math.nan], NoRateError, "month 1 is nan"),
        ([math.inf, -1], NoRateError, "month 0 is inf"),
        ([Decimal("NaN"), -1], NoRateError, "month 0 is NaN"),
        ([-0.01, 1e12], RateOutOfRangeError, "does not fit its column"),
    ],
)
def test_errors_are_clear(flows: list[float], error: type[IrrError], message: str) -> None:
    """What has no rate is refused with an error of its own class, one of this package's."""
    with pytest.raises(error, match=message) as caught:
        annual_irr(flows)
    assert isinstance(caught.value, SeqReserveError)


def test_many_keep_their_places() -> None:
    """Many lists at once give each list's rate or error in its place."""
    results = annual_irrs([[-1000], [-10000, 10100], [], [1, 2], [-10000, 0, 10100]])
    assert [type(result) for result in results] == [
        TooFewFlowsError,
        float,
        float,
        OneSidedFlowsError,
        float,
    ]
    assert [result for result in results if isinstance(result, float)] == pytest.approx(
        [12, 0, 5.98507], rel=1e-6
    )


def test_rate_is_stored_at_two_places() -> None:
    """A rate is rounded to two places, halves away from zero, and refused beyond its column."""
    assert round_irr(5.98507) == Decimal("5.99")
    assert round_irr(0.125) == Decimal("0.13")
    assert round_irr(-0.125) == Decimal("-0.13")
    assert round_irr(float(MAX_IRR)) == MAX_IRR
    for rate in (1e8, -1e8, math.inf, math.nan):
        with pytest.raises(RateOutOfRangeError):
            round_irr(rate)


def random_flows(random: Random) -> list[float]:
    """Draw flows of one of several shapes: savings plans, trading in and out, plain noise."""
    months = random.randint(1, 60)
    shape = random.randrange(3)
    if shape == 0:
        flows = [-random.randint(1, 100000) / 100 for _ in range(months)]
        return [*flows, -sum(flows) * random.uniform(0.5, 2)]
    if shape == 1:
        flows = [
            random.choice([-1, -1, 0, 1]) * random.randint(1, 99999) / 100 for _ in range(months)
        ]
        return [*flows, abs(sum(flows)) * random.uniform(0.9, 1.1)]
    return [
        random.choice([-1, 0, 1]) * random.randint(1, 1000) for _ in range(random.randint(1, 12))
    ]


def nearest_zero(rates: np.ndarray[Any, np.dtype[np.float64]]) -> np.float64:
    """Return which of several rates counts: numpy-financial 1.1 has to be told, 1.0 cannot be.

    1.1 also gives the loss of everything as a rate, for each month without a flow at the end.
    """
    rates = rates[rates > -1]
    nearest: np.float64 = rates[np.argmin(np.abs(rates))] if rates.size else np.float64("nan")
    return nearest


CHOICE: dict[str, Any] = (
    {"selection_logic": nearest_zero}
    if "selection_logic" in signature(numpy_financial.irr).parameters
    else {}
)


def test_agrees_with_a_second_library() -> None:
    """On thousands of lists, the rate, or that there is none, is what numpy-financial says."""
    seed = 20240601
    print(f"seed {seed}")
    random = Random(seed)
    lists = [random_flows(random) for _ in range(4000)]
    ours = annual_irrs(lists)
    without_rate = 0
    for flows, rate in zip(lists, ours, strict=True):
        if not any(flows) or abs(math.fsum(flows)) < 1e-9:
            # Where flows cancel out, theirs is off by its rounding, or not a number.
            assert rate == 0.0, flows
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            theirs = numpy_financial.irr(flows, **CHOICE) * 1200
        if math.isnan(theirs) or theirs == -1200:
            assert isinstance(rate, IrrError), flows
            without_rate += 1
        else:
            assert rate == pytest.approx(theirs, rel=1e-6, abs=1e-6), flows
    assert 500 < without_rate < 3000


def test_agrees_with_a_third_library() -> None:
    """On thousands of savings plans, the rate is what pyxirr's own method finds."""
    seed = 7
    print(f"seed {seed}")
    random = Random(seed)
    lists = []
    for _ in range(2000):
        paid = [-random.randint(1, 100000) / 100 for _ in range(random.randint(1, 240))]
        lists.append([*paid, -sum(paid) * random.uniform(0.7, 1.5)])
    for flows, rate in zip(lists, annual_irrs(lists), strict=True):
        theirs = pyxirr.irr(flows)
        assert theirs is not None
        assert rate == pytest.approx(1200 * theirs, rel=1e-6, abs=1e-6), flows


@given(st.lists(st.integers(-(10**9), 10**9).map(lambda cents: cents / 100), max_size=40))
def test_result_balances_the_flows(flows: list[float]) -> None:
    """Whatever the flows: a rate that brings their present value to zero, or an error of ours."""
    [result] = annual_irrs([flows])
    if isinstance(result, IrrError) or result == 0.0:
        return
    growth = 1 + result / 1200
    # Discounted to the end at which no term overflows.
    start = len(flows) - 1 if growth < 1 else 0
    values = [flow * growth ** (start - month) for month, flow in enumerate(flows)]
    assert abs(math.fsum(values)) <= 1e-5 * math.fsum(map(abs, values))


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30), st.integers(1, 10**6))
def test_scale_does_not_matter(flows: list[int], scale: int) -> None:
    """Flows in another currency have the same rate, or the same lack of one."""
    one, other = annual_irrs([flows, [flow * scale for flow in flows]])
    if isinstance(one, IrrError):
        assert type(other) is type(one)
    else:
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)
