"""The results of one side of the conformance run, read from the lines that the plugin wrote."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RESULTS_FILE", "Results", "TestResult", "read_results"]

RESULTS_FILE = "results.jsonl"

# SQLAlchemy adds the backend to the name of a test class; comparisons leave it out.
_BACKEND = re.compile(r"_postgresql\+[a-z0-9]+(_async)?_[0-9_]+(?=::|$)")


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test: its outcome, its seconds and, if it failed, the first lines of the failure."""

    __test__ = False

    outcome: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """One side: its tests, the rows by writer, and the reasons why COPY did not write rows.

    *complete*: the side ran to its end.
    """

    tests: Mapping[str, TestResult]
    rows: Mapping[str, int]
    reasons: Mapping[str, int]
    seconds: float
    complete: bool

    def passed(self) -> set[str]:
        return {name for name, test in self.tests.items() if test.outcome == "passed"}


def read_results(folder: Path) -> Results:
    """Read the plugin's lines in *folder*; if the run died, those that it wrote before."""
    tests: dict[str, TestResult] = {}
    rows: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    seconds = 0.0
    complete = False
    path = folder / RESULTS_FILE
    for line in path.read_text().splitlines() if path.is_file() else ():
        record = json.loads(line)
        rows.update(record["rows"])
        reasons.update(record["reasons"])
        if record["kind"] == "end":
            seconds, complete = record["seconds"], True
        else:
            tests[_BACKEND.sub("", record["test"])] = TestResult(
                record["outcome"], record["seconds"], record["message"]
            )
    return Results(tests, rows, reasons, seconds, complete)
