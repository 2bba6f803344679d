"""A clock for the runs."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Starts when it is made; :meth:`seconds` reads it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._started
