"""Real share prices: five American companies, month by month from January 2000 to March 2010.

They are the file ``stocks.csv`` of the package ``vega_datasets`` 0.9, Copyright (c) 2018 Jake
Vanderplas, MIT licence (``share_prices.LICENSE``). The file is included here so that nobody has to
install pandas for it. Google's prices begin in August 2004, when it went public.
"""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

__all__ = ["SharePrice", "read_share_prices"]

# strptime would read them in the language of the user's locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class SharePrice:
    """The price of one share in one month, in dollars; the date is the month's first day."""

    symbol: str
    date: dt.date
    price: Decimal


def read_share_prices() -> list[SharePrice]:
    """Return the prices, symbol after symbol, each symbol's by date."""
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return [
            SharePrice(row["symbol"], _date(row["date"]), Decimal(row["price"]))
            for row in csv.DictReader(file)
        ]


def _date(text: str) -> dt.date:
    """Read a date such as ``Jan 1 2000``."""
    month, day, year = text.split()
    return dt.date(int(year), _MONTHS.index(month) + 1, int(day))
