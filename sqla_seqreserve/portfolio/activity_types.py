"""The types of holding activity that the portal knows."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ActivityType"]


class ActivityType(StrEnum):
    """The type of a holding activity.

    The column is text, so that imported rows with other labels stay readable; these are the labels
    that the portal writes. Amounts are positive whatever the type.
    """

    INVESTMENT = "Investment"
    REGULAR_INVESTMENT = "RegularInvestment"
    TAX_UPLIFT = "TaxUplift"
    PRODUCT_SWITCH_IN = "ProductSwitchIn"
    FUND_SWITCH_IN = "FundSwitchIn"
    WITHDRAWAL = "Withdrawal"
    PRODUCT_SWITCH_OUT = "ProductSwitchOut"
    FUND_SWITCH_OUT = "FundSwitchOut"
