"""The measurements: samples, their medians, and ratios of medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .drivers import PSYCOPG
from .work import Measure, Required, Work

__all__ = ["Requirement", "Result"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement with the value that was reached."""

    required: Required
    reached: float

    @property
    def ok(self) -> bool:
        """Whether it is met."""
        return self.required.is_met(self.reached)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "against": self.required.against,
            "kind": self.required.kind,
            "times": self.required.times,
            "reached": self.reached,
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """One measure of one work: one sample per round for each way.

    Time is in microseconds per object, memory in megabytes.
    """

    work: Work
    measure: Measure
    samples: Mapping[str, Sequence[float]]
    driver: str = PSYCOPG

    @property
    def title(self) -> str:
        """What was done and measured."""
        return f"{self.work.title}: {self.measure.title}" if self.measure.title else self.work.title

    def median(self, way: str) -> float:
        """The median of a way's samples."""
        return median(self.samples[way])

    def ratio(self, way: str) -> float | None:
        """How many times as long as this package the way took: the ratio of the medians."""
        ours = self.measure.ours
        return self.median(way) / self.median(ours) if ours in self.samples else None

    def pairwise_ratio(self, way: str) -> float | None:
        """The median of the ratios of each round, which a machine that slows down changes less."""
        ours = self.samples.get(self.measure.ours)
        if ours is None:
            return None
        return median(other / mine for other, mine in zip(self.samples[way], ours, strict=True))

    @property
    def requirements(self) -> Sequence[Requirement]:
        """The requirements on this package for which both sides were measured."""
        ours = self.measure.ours
        return [
            Requirement(
                required, required.reached(self.median(ours), self.median(required.against))
            )
            for anywhere in self.measure.required
            if (required := anywhere.on(self.driver)) is not None
            and required.against in self.samples
            and ours in self.samples
        ]

    def to_dict(self, *, required: bool = True) -> dict[str, Any]:
        """For JSON, with or without the requirements."""
        found = {
            "work": self.work.name,
            "driver": self.driver,
            "measure": self.measure.name,
            "title": self.title,
            "unit": self.measure.unit,
            "objects": self.work.objects,
            "round_trip_ms": self.work.round_trip_ms,
            "rounds": self.work.rounds,
            "ours": self.measure.ours,
            "ways": [
                {
                    "name": way,
                    "median": self.median(way),
                    "ratio": self.ratio(way),
                    "pairwise_ratio": self.pairwise_ratio(way),
                    "samples": list(samples),
                }
                for way, samples in self.samples.items()
            ],
        }
        if required:
            found["required"] = [requirement.to_dict() for requirement in self.requirements]
        return found
