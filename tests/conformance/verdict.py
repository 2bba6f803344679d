"""The comparison: the tests that only plain SQLAlchemy passes, and whether the run proves anything.
No I/O.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .results import Results

__all__ = ["Verdict", "judge", "parse_exceptions", "read_exceptions"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of comparing both sides."""

    plain_passed: int
    plain_total: int
    plain_seconds: float
    ours_passed: int
    ours_total: int
    ours_seconds: float
    #: test -> the first lines of its failure
    lost: Mapping[str, str]
    #: test -> the reason of its exception
    excepted: Mapping[str, str]
    #: listed exceptions that are not needed -> what was found
    stale: Mapping[str, str]
    gained: tuple[str, ...]
    rows: Mapping[str, int]
    reasons: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not (self.lost or self.stale or self.problems)

    def lines(self) -> Iterator[str]:
        """The summary, as lines for people."""
        for test, message in sorted(self.lost.items()):
            yield f"LOST {test}"
            yield from (f"     {line}" for line in message.splitlines())
        for test, reason in sorted(self.excepted.items()):
            yield f"EXCEPTED {test}: {reason}"
        for test, found in sorted(self.stale.items()):
            yield f"STALE EXCEPTION {test}: {found}"
        for test in self.gained:
            yield f"GAINED {test}"
        for reason, rows in sorted(self.reasons.items(), key=lambda item: -item[1]):
            yield f"{rows:8,} rows by {reason}"
        yield f"plain: {self.plain_passed} of {self.plain_total} passed, {self.plain_seconds:.0f} s"
        yield f"ours:  {self.ours_passed} of {self.ours_total} passed, {self.ours_seconds:.0f} s"
        yield f"lost {len(self.lost)}, excepted {len(self.excepted)}, gained {len(self.gained)}"
        yield "rows: " + ", ".join(
            f"{writer} {self.rows.get(writer, 0):,}" for writer in ("copy", "insert", "orm")
        )
        for problem in self.problems:
            yield f"PROBLEM {problem}"
        yield "conformance: " + ("OK" if self.ok else "FAILED")


def judge(
    plain: Results,
    ours: Results,
    exceptions: Mapping[str, str],
    *,
    copies: bool = True,
    selected: bool = False,
) -> Verdict:
    """Compare both sides. *copies*: this package's side had to write by COPY. *selected*: only some
    tests of a file ran, so a listed one may be absent.
    """
    lost = {test: _why_lost(ours, test) for test in plain.passed() - ours.passed()}
    return Verdict(
        plain_passed=len(plain.passed()),
        plain_total=len(plain.tests),
        plain_seconds=plain.seconds,
        ours_passed=len(ours.passed()),
        ours_total=len(ours.tests),
        ours_seconds=ours.seconds,
        lost={test: why for test, why in lost.items() if test not in exceptions},
        excepted={test: reason for test, reason in exceptions.items() if test in lost},
        stale=dict(_stale(plain, ours, exceptions, selected=selected)),
        gained=tuple(sorted(ours.passed() - plain.passed())),
        rows=dict(ours.rows),
        reasons=dict(ours.reasons),
        problems=tuple(_problems(plain, ours, copies=copies)),
    )


def _why_lost(ours: Results, test: str) -> str:
    if test not in ours.tests:
        return "did not run"
    found = ours.tests[test]
    return found.message or found.outcome


def _stale(
    plain: Results, ours: Results, exceptions: Mapping[str, str], *, selected: bool
) -> Iterator[tuple[str, str]]:
    files = {test.partition("::")[0] for test in plain.tests}
    for test in exceptions:
        if test not in plain.tests:
            if test.partition("::")[0] in files and not selected:
                yield test, "there is no such test"
        elif test not in plain.passed():
            yield test, "plain SQLAlchemy does not pass it either"
        elif test in ours.passed():
            yield test, "it passes"


def _problems(plain: Results, ours: Results, *, copies: bool) -> Iterator[str]:
    if not plain.passed():
        yield "plain SQLAlchemy passed no test: there is nothing to lose"
    if not plain.complete:
        yield "the plain run died before its end: read its log"
    if not ours.complete:
        yield "our run died before its end: read its log"
    if not any(ours.rows.values()):
        yield "no flush was told of: a run without us proves nothing"
    elif copies and not ours.rows.get("copy"):
        yield "COPY took no rows: a run that always falls back proves nothing"


def read_exceptions(
    path: Path, version: str, driver: str = "psycopg", settings: str = "copy"
) -> dict[str, str]:
    """The listed exceptions for SQLAlchemy *version* and this run: test -> reason."""
    return parse_exceptions(path.read_text(), version, driver, settings)


def parse_exceptions(
    text: str, version: str, driver: str = "psycopg", settings: str = "copy"
) -> dict[str, str]:
    """The exceptions in *text*; the head of ``exceptions.toml`` describes the format."""
    return {
        entry["test"]: entry["reason"]
        for entry in tomllib.loads(text).get("exception", [])
        if version.startswith(f"{entry['sqlalchemy']}." if "sqlalchemy" in entry else "")
        and ("before" not in entry or _parts(version) < _parts(entry["before"]))
        and driver in entry.get("drivers", [driver])
        and settings == entry.get("settings", settings)
    }


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
