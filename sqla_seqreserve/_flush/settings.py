"""The settings of a registration as one value. A flush uses the value that it began with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sqlalchemy.orm import Mapper

from .._reasons import MODE_OFF, MODE_RESERVE, Reason
from ..reports import FlushReport

Commit: TypeAlias = Literal["along", "apart"]
"""Whether the COMMIT may travel with the last message of the flush that ``commit()`` began."""

Mode: TypeAlias = Literal["bulk", "reserve", "off"]
"""What a registration may do: reserve and write the cheapest way, only reserve, or nothing."""

OnDrift: TypeAlias = Literal["ignore", "warn", "raise", "repair"]
"""What becomes of a sequence that is behind its table when an engine is first used."""

Reserve: TypeAlias = Literal["auto", "always"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a registration at one time.

    :param classes: the enrolled classes, subclasses included; ``None``: every class.
    :param callbacks: called with the report of a flush, in this order.
    :param rank: how specific the registration's target is; of several, the largest decides.
    """

    mode: Mode = "bulk"
    reserve: Reserve = "auto"
    copy_min_rows: int | None = None
    prefetch: int = 0
    commit: Commit = "along"
    classes: tuple[type[Any], ...] | None = None
    on_drift: OnDrift = "ignore"
    callbacks: tuple[Callable[[FlushReport], object], ...] = ()
    rank: tuple[int, int] = (0, 0)
    is_plain: bool = field(init=False)
    """Whether the settings ask only for the cheapest way; keys may be kept ahead (``prefetch``)."""
    mode_reason: Reason | None = field(init=False)
    """If the mode makes SQLAlchemy write everything its own way: the reason to report."""

    def __post_init__(self) -> None:
        is_plain = (
            self.mode == "bulk"
            and self.reserve == "auto"
            and self.copy_min_rows is None
            and self.on_drift == "ignore"
        )
        object.__setattr__(self, "is_plain", is_plain)
        reasons = {"off": MODE_OFF, "reserve": MODE_RESERVE}
        object.__setattr__(self, "mode_reason", reasons.get(self.mode))

    def enrols(self, mapper: Mapper[Any]) -> bool:
        """Whether the registration covers objects of this class."""
        return self.classes is None or issubclass(mapper.class_, self.classes)

    def flushed(self, report: FlushReport) -> None:
        """Hand the report to the callbacks."""
        for callback in self.callbacks:
            callback(report)
