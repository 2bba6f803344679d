"""What a driver's way of talking to the server costs: round trips, and microseconds of work."""

from __future__ import annotations

from typing import Protocol


class Wire(Protocol):
    """The costs of one driver, measured on a local server by ``sqla-seqreserve bench``."""

    @property
    def begins_along(self) -> bool:
        """Whether the BEGIN of a transaction travels with the first message."""

    @property
    def sends_several(self) -> bool:
        """Whether the INSERTs of a flush travel in one message."""

    @property
    def lock_round_trips(self) -> int:
        """Round trips of the lock that a reservation takes, beside its own."""

    @property
    def copy_round_trips(self) -> int:
        """Round trips of one COPY."""

    @property
    def copy_start(self) -> float:
        """Microseconds of work that one COPY takes beside its rows."""

    @property
    def copy_row(self) -> float:
        """Microseconds a row by COPY."""

    @property
    def insert_row(self) -> float:
        """Microseconds a row by an INSERT whose keys are known."""

    @property
    def numbered_row(self) -> float:
        """Microseconds a row by an INSERT that brings the keys back."""

    @property
    def statement(self) -> float:
        """Microseconds of work that a statement takes which is sent by itself."""

    @property
    def reservation(self) -> float:
        """Microseconds of work that a reservation takes."""
