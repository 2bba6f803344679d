"""The errors of the portfolio, all of them :class:`~sqla_seqreserve.errors.SeqReserveError`.

::

    SeqReserveError
     └─ IrrError                     no rate of return can be given for these flows
         ├─ TooFewFlowsError         fewer than two months with a flow
         ├─ OneSidedFlowsError       money only went in, or only came out
         ├─ NoRateError              no rate balances the flows, or a flow is not finite
         └─ RateOutOfRangeError      the rate does not fit its column

Rows that cannot be saved are an :class:`~sqla_seqreserve.errors.InvalidRowsError`, as everywhere
else.
"""

from __future__ import annotations

from sqla_seqreserve.errors import SeqReserveError

__all__ = [
    "IrrError",
    "NoRateError",
    "OneSidedFlowsError",
    "RateOutOfRangeError",
    "TooFewFlowsError",
]


class IrrError(SeqReserveError):
    """No rate of return can be given for these flows."""


class TooFewFlowsError(IrrError):
    """Fewer than two months have a flow."""


class OneSidedFlowsError(IrrError):
    """No month has a negative flow, or none has a positive one."""


class NoRateError(IrrError):
    """No rate above -100 % a month balances the flows, or a flow is not finite."""


class RateOutOfRangeError(IrrError):
    """The rate exists, but does not fit its column."""
