"""The share prices of the demonstration."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from decimal import Decimal
from pathlib import Path

from sqla_seqreserve.portfolio import share_prices
from sqla_seqreserve.portfolio.share_prices import SharePrice, read_share_prices


def test_five_shares_over_a_decade() -> None:
    """Every share has a price for each month, Google since it went public."""
    prices = read_share_prices()
    assert Counter(share.symbol for share in prices) == {
        "AAPL": 123,
        "AMZN": 123,
        "GOOG": 68,
        "IBM": 123,
        "MSFT": 123,
    }
    assert prices[0] == SharePrice("MSFT", dt.date(2000, 1, 1), Decimal("39.81"))
    assert min(share.date for share in prices if share.symbol == "GOOG") == dt.date(2004, 8, 1)


def test_no_month_is_missing() -> None:
    """Each share's dates are the first days of months that follow one another."""
    for _, group in itertools.groupby(read_share_prices(), key=lambda share: share.symbol):
        dates = [share.date for share in group]
        assert {date.day for date in dates} == {1}
        months = [12 * date.year + date.month for date in dates]
        assert months == list(range(months[0], months[0] + len(months)))


def test_their_licence_is_there() -> None:
    """The share prices come from another project, so its licence is part of the package."""
    notice = Path(share_prices.__file__).with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "Copyright (c) 2018 Jake Vanderplas" in notice
