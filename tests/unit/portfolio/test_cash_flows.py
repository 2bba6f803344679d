"""Cash flows: the rules table, monthly netting, and the closing valuation."""

from datetime import date, timedelta
from decimal import Decimal
from random import Random

import pytest

from sqla_seqreserve.portfolio.activity_types import ActivityType
from sqla_seqreserve.portfolio.cash_flows import CashFlow, FlowHistory, flow_sign, monthly_flows


def flow(day: str, amount: str, counts_from: str | None = None) -> CashFlow:
    return CashFlow(
        date.fromisoformat(day),
        Decimal(amount),
        date.fromisoformat(counts_from) if counts_from else None,
    )


@pytest.mark.parametrize(
    ("activity_type", "sign"),
    [
        ("Investment", -1),
        ("RegularInvestment", -1),
        ("initial investment", -1),
        ("TaxUplift", -1),
        ("ProductSwitchIn", -1),
        ("FundSwitchIn", -1),
        ("Withdrawal", 1),
        ("RegularWithdrawal", 1),
        ("ProductSwitchOut", 1),
        ("FundSwitchOut", 1),
        ("Platform Fee", 1),
        ("Charges", 1),
        ("expenses", 1),
        ("Dividend", -1),
        ("INTEREST", -1),
        ("Capital Gain", -1),
        ("Rebalance", 0),
        ("Tax Uplift", 0),
        ("My FundSwitchIn", 0),
        ("CapitalGain", 0),
        ("", 0),
    ],
)
def test_sign_of_each_type(activity_type: str, sign: int) -> None:
    """The sign follows the rules table on the lower-cased type."""
    assert flow_sign(activity_type) == sign


@pytest.mark.parametrize(
    ("activity_type", "sign"),
    [
        ("Investment Fee", -1),
        ("Withdrawal of Investment", -1),
        ("Withdrawal of Dividend", 1),
        ("Interest Charge", 1),
    ],
)
def test_first_rule_that_matches_wins(activity_type: str, sign: int) -> None:
    """A type that several rules match has the sign of the first."""
    assert flow_sign(activity_type) == sign


def test_every_type_of_the_portal_has_a_flow() -> None:
    """Money in is negative and money out positive, for each type that the portal writes."""
    signs = {str(kind): flow_sign(kind) for kind in ActivityType}
    assert {kind for kind, sign in signs.items() if sign == 1} == {
        "Withdrawal",
        "ProductSwitchOut",
        "FundSwitchOut",
    }
    assert 0 not in signs.values()


def test_flows_are_summed_by_calendar_month() -> None:
    """Each calendar month has one net flow, months without any a zero."""
    flows = [
        flow("2023-11-01", "-100"),
        flow("2023-11-30", "-50.25"),
        flow("2024-01-31", "20"),
        flow("2024-02-01", "30"),
    ]
    assert monthly_flows(flows, date(2024, 2, 1), Decimal(200)) == [-150.25, 0, 20, 30, 200]


@pytest.mark.parametrize("day", ["2024-02-01", "2024-02-15", "2024-02-29"])
def test_closing_valuation_goes_to_the_month_after(day: str) -> None:
    """The valuation stands in the month after the date's month, whatever the day."""
    flows = [flow("2024-01-10", "-100")]
    assert monthly_flows(flows, date.fromisoformat(day), Decimal(101)) == [-100, 0, 101]


def test_closing_valuation_of_the_month_of_the_flows() -> None:
    """Flows of the date's own month are not netted against the valuation."""
    assert monthly_flows([flow("2024-01-10", "-100")], date(2024, 1, 10), Decimal(101)) == [
        -100,
        101,
    ]


def test_closing_valuation_crosses_the_year() -> None:
    """The month after December is January."""
    assert monthly_flows([flow("2023-12-10", "-1")], date(2023, 12, 31), Decimal(2)) == [-1, 2]


def test_zero_valuation_adds_no_flow() -> None:
    """A valuation of zero adds no flow, and no month."""
    assert monthly_flows([flow("2024-01-10", "-1")], date(2024, 2, 1), Decimal(0)) == [-1, 0]


def test_flows_after_the_date_do_not_count() -> None:
    """Everything up to the end of the date counts, and nothing after it."""
    flows = [flow("2024-01-01", "-1"), flow("2024-01-15", "-2"), flow("2024-01-16", "-4")]
    assert monthly_flows(flows, date(2024, 1, 15), Decimal(9)) == [-3, 9]


def test_month_under_a_cent_counts_as_zero() -> None:
    """A month whose flows cancel out to less than 0.01 has no flow; one of 0.01 has."""
    flows = [
        flow("2024-01-01", "-10"),
        flow("2024-02-01", "0.1"),
        flow("2024-02-02", "0.2"),
        flow("2024-02-03", "-0.3"),
        flow("2024-03-01", "0.0099"),
        flow("2024-04-01", "-0.0099"),
        flow("2024-05-01", "0.01"),
    ]
    assert monthly_flows(flows, date(2024, 5, 1), Decimal("0.009")) == [-10, 0, 0, 0, 0.01]


def test_nothing_happened_yet() -> None:
    """Without a flow by the date there are no months, whatever the valuation."""
    assert monthly_flows([], date(2024, 1, 1), Decimal(100)) == []
    assert monthly_flows([flow("2024-02-01", "-1")], date(2024, 1, 31), Decimal(100)) == []


def test_flow_that_counts_later_keeps_its_month() -> None:
    """A flow that counts from a later date is left out before, and then stands in its own month."""
    history = FlowHistory([flow("2024-02-01", "-10"), flow("2024-01-01", "-5", "2024-03-01")])
    assert history.up_to(date(2024, 2, 29), Decimal(11)) == [0, -10, 11]
    assert history.up_to(date(2024, 3, 1), Decimal(17)) == [-5, -10, 0, 17]


def test_history_refuses_to_go_back() -> None:
    """An earlier date than the one before is refused rather than answered wrongly."""
    history = FlowHistory([flow("2024-01-01", "-1")])
    history.up_to(date(2024, 3, 1), Decimal(1))
    with pytest.raises(ValueError, match="read forward"):
        history.up_to(date(2024, 2, 29), Decimal(1))


def test_history_answers_each_date_as_if_alone() -> None:
    """Reading forward through many dates gives what each date gives by itself."""
    seed = 6
    print(f"seed {seed}")
    random = Random(seed)
    start = date(2020, 1, 1)
    flows = [
        CashFlow(
            start + timedelta(days=random.randrange(900)),
            Decimal(random.randint(-500, 500)) / 100,
            start + timedelta(days=random.randrange(900)) if random.random() < 0.3 else None,
        )
        for _ in range(300)
    ]
    history = FlowHistory(flows)
    dates = sorted(start + timedelta(days=random.randrange(1000)) for _ in range(60))
    answers = [history.up_to(day, Decimal(7)) for day in dates]
    for day, answer in zip(dates, answers, strict=True):
        counted = [entry for entry in flows if entry.first_date <= day]
        months: dict[int, Decimal] = {}
        for entry in counted:
            month = (entry.day.year - 2020) * 12 + entry.day.month - 1
            months[month] = months.get(month, Decimal(0)) + entry.amount
        first = min((f.day.year - 2020) * 12 + f.day.month - 1 for f in flows)
        last = (day.year - 2020) * 12 + day.month - 1
        expected = [float(months.get(month, 0)) for month in range(first, last + 1)] + [7.0]
        assert answer == (expected if counted else [])
