"""The rows that every way writes. Each has a number, so that they can be compared."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

__all__ = [
    "account_values",
    "bond_values",
    "node_values",
    "payment_values",
    "payments",
    "posting_values",
]

_START = dt.datetime(2024, 1, 1, 9, tzinfo=dt.UTC)
_KINDS = ("Investment", "RegularInvestment", "Withdrawal", "Dividend", "Fee")


def payment_values(number: int) -> dict[str, Any]:
    """Values for ``Payment``; every third has a note, and all columns are given."""
    return {
        "number": number,
        "portfolio": number % 97,
        "kind": _KINDS[number % len(_KINDS)],
        "paid_at": _START + dt.timedelta(minutes=number),
        "amount": Decimal(number * 7 % 1_000_000).scaleb(-2),
        "booked_at": _START + dt.timedelta(minutes=number + 5),
        "note": f"note {number}" if number % 3 == 0 else None,
    }


def payments(count: int) -> list[dict[str, Any]]:
    """Values for this many payments."""
    return [payment_values(number) for number in range(count)]


def account_values(number: int) -> dict[str, Any]:
    """Values for ``Account``."""
    return {"number": number, "name": f"Account {number}"}


def posting_values(number: int) -> dict[str, Any]:
    """Values for ``Posting``."""
    return {"number": number, "amount": Decimal(number % 100_000).scaleb(-2)}


def node_values(number: int) -> dict[str, Any]:
    """Values for ``Node``."""
    return {"number": number, "name": f"Node {number}"}


def bond_values(number: int) -> dict[str, Any]:
    """Values for ``Bond``."""
    return {
        "number": number,
        "name": f"Bond {number}",
        "coupon": Decimal(number % 900).scaleb(-2),
        "issued_at": _START + dt.timedelta(days=number % 3650),
    }
