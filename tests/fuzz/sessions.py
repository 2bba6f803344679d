"""Executes one list of operations in a plain and in a registered session, and shortens a list that
differs.

Compared after each operation are the class of its error, its warnings, the state of the session and
the state of every object that was ever made; and at the end the rows of all tables. Keys are
compared by the objects that they belong to. If plain SQLAlchemy itself gives different results (it
orders some things by their addresses), this is no difference.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from fixtures.sides import Side, Way
from fixtures.tables import empty
from fixtures.twins import differences
from fuzz.operations import Operation, draw_operations
from fuzz.player import Player
from fuzz.shapes import Blueprint, Models, build, draw
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

__all__ = ["Case", "Report", "Sessions"]

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")
WAYS: Final = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("always", {"reserve": "always"}),
    Way("reserve", {"mode": "reserve"}),
    Way("prefetch", {"prefetch": 20}),
    Way("copy of three, prefetch", {"copy_min_rows": 3, "prefetch": 5}),
)
LISTS_PER_BLUEPRINT: Final = 6
REFUSALS: Final = {
    "DataError",
    "DBAPIError",
    "IntegrityError",
    "ProgrammingError",
    "StatementError",
}
ATTEMPTS: Final = 10
"""How often plain SQLAlchemy runs again before a difference counts."""


@dataclass(frozen=True)
class Case:
    """A list of operations over models, on a driver, with settings for the sessions of both
    sides.
    """

    seed: str
    blueprint: Blueprint
    operations: tuple[Operation, ...]
    way: Way
    driver: str
    options: tuple[tuple[str, Any], ...]

    def step(self, number: int) -> str:
        """The operation of this step; after the given operations come a commit, a look and a
        rollback.
        """
        return str([*self.operations, "commit", "look", "rollback"][number])

    def __str__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self.options)
        operations = [f"      {operation}" for operation in self.operations]
        first = f"seed {self.seed!r}, {self.way} on {self.driver}{options}"
        return "\n".join([first, str(self.blueprint), *operations])


@dataclass
class Report:
    """The lists of a run, and the differences that it found."""

    seed: int
    cases: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    writers: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    found: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        count = sum(map(len, self.found.values()))
        lines = [
            f"seed {self.seed}: {self.cases.total()} lists of {self.operations} operations,"
            f" {count} differences of {len(self.found)} classes,"
            f" {self.undecided} where plain SQLAlchemy differs from itself",
            *(
                f"  {name}: {', '.join(f'{key} {count}' for key, count in sorted(some.items()))}"
                for name, some in [
                    ("cases", self.cases),
                    ("rows by writer", self.writers),
                    ("raised", self.refused),
                ]
            ),
        ]
        for some in self.found.values():
            lines += [
                "",
                *some[0].splitlines(),
                *([f"  and {len(some) - 1} more"] if some[1:] else []),
            ]
        return "\n".join(lines)


class Sessions:
    """Engines of both sides on each driver, and the models of the present blueprint."""

    def __init__(self, urls: tuple[str, str], seed: int, drivers: Sequence[str] = DRIVERS) -> None:
        self.urls, self.seed, self.drivers = urls, seed, drivers
        self.report = Report(seed)
        self._engines: list[Engine] = []
        self._sides: dict[tuple[str, str, bool], Side] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Sessions:
        for url in self.urls:
            engine = create_engine(url)
            empty(url)
            self._engines.append(engine)
            self._stack.callback(engine.dispose)
        return self

    def __exit__(self, *_error: object) -> None:
        for side in self._sides.values():
            side.close()
        self._stack.close()

    def run(self, seconds: float) -> Report:
        """Draw models and lists of operations until the time is up."""
        deadline, number = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            self.try_blueprint(f"{self.seed}.{number}", deadline)
            number += 1
        return self.report

    def try_blueprint(self, seed: str, deadline: float, only: int | None = None) -> None:
        """Draw one set of models and some lists of operations, and execute them on every driver."""
        blueprint = draw(Random(seed))
        prefix = f"m{seed.replace('.', '_')}"
        models = build(blueprint, prefix)
        for engine in self._engines:
            models.metadata.create_all(engine)
        try:
            for number in range(LISTS_PER_BLUEPRINT) if only is None else [only]:
                if time.monotonic() > deadline:
                    break
                self.try_list(f"{seed}.{number}", blueprint, models)
        finally:
            for engine in self._engines:
                models.metadata.drop_all(engine)
            models.mappers.dispose()

    def try_list(self, seed: str, blueprint: Blueprint, models: Models) -> None:
        """Draw one list of operations, and one way of writing for each driver."""
        chance = Random(seed)
        operations = draw_operations(chance, blueprint, chance.randint(6, 30))
        options = {
            "expire_on_commit": chance.random() < 2 / 3,
            "autoflush": chance.random() < 3 / 4,
        }
        for driver in self.drivers:
            way = chance.choice(WAYS)
            case = Case(seed, blueprint, tuple(operations), way, driver, tuple(options.items()))
            self.report.cases[f"{way} on {driver}"] += 1
            self.report.operations += len(operations)
            found = self.compare(case, models, count=True)
            if found is None:
                continue
            if self.is_undecided(case, models, found[0]):
                self.report.undecided += 1
                continue
            case, found = self.smallest(case, models, found)
            lines = "\n".join(f"  {line[:600]}" for line in found[1])
            group = (found[0], found[1][0].split(":")[0][-40:], str(case.operations[-1].name))
            self.report.found.setdefault(group, []).append(f"{case}\n{lines}")

    def compare(
        self, case: Case, models: Models, *, count: bool = False
    ) -> tuple[str, list[str]] | None:
        """The kind of the first difference and its lines, or None."""
        plain = self.play(case, models, registered=False)
        ours = self.play(case, models, registered=True, count=count)
        for step, (one, other) in enumerate(zip(plain, ours, strict=True)):
            place = f"after {case.step(step)}"
            if {one["raised"], other["raised"]} <= REFUSALS and one["raised"] != other["raised"]:
                # If several things are wrong in one flush, the two sides may report different ones
                # first.
                return None
            for what in ("raised", "left", "warned", "session", "objects", "saw"):
                if what == "left":
                    found = surplus(f"left {place}", other[what], one[what])
                else:
                    found = differences(f"{what} {place}", other[what], one[what])
                if found:
                    return what, found
        return None

    def is_undecided(self, case: Case, models: Models, _what: str) -> bool:
        """Whether plain SQLAlchemy itself gives different results."""
        first = self.play(case, models, registered=False)
        return (
            any(self.play(case, models, registered=False) != first for _ in range(ATTEMPTS))
            or self.compare(case, models) is None
        )

    def smallest(
        self, case: Case, models: Models, found: tuple[str, list[str]]
    ) -> tuple[Case, tuple[str, list[str]]]:
        """The same kind of difference, with as few operations and rows as possible."""
        deadline = time.monotonic() + 30
        smaller = True
        while smaller and time.monotonic() < deadline:
            smaller = False
            for operations in fewer(case.operations):
                shorter = replace(case, operations=operations)
                again = self.compare(shorter, models)
                if again is not None and again[0] == found[0]:
                    case, found, smaller = shorter, again, True
                    break
        return case, found

    def play(
        self, case: Case, models: Models, *, registered: bool, count: bool = False
    ) -> list[dict[str, Any]]:
        """Execute the operations on emptied tables."""
        engine = self._engines[registered]
        names = ", ".join(table.name for table in models.metadata.tables.values())
        with engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {names}")
        side = self._side(case, registered=registered)
        side.reports.clear()

        def carry_out(session: Session) -> list[dict[str, Any]]:
            player = Player(session, models)
            steps = [player.play(operation) for operation in case.operations]
            steps += [player.play(Operation(name)) for name in ("commit", "look", "rollback")]
            return steps

        steps = side.run(carry_out, **dict(case.options))
        if count:
            self.report.refused.update(step["raised"] for step in steps if step["raised"])
            for report in side.reports:
                for entry in report.entries:
                    self.report.writers[f"{entry.writer} on {case.driver}"] += entry.rows
        return steps

    def _side(self, case: Case, *, registered: bool) -> Side:
        key = (case.driver, case.way.name if registered else "", registered)
        if key not in self._sides:
            url = self.urls[registered]
            self._sides[key] = Side(url, case.way, registered=registered, driver=case.driver)
        return self._sides[key]


def surplus(where: str, ours: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """Values that this package left on objects of a refused flush, and plain SQLAlchemy did not."""
    return [
        f"{where} on {tag}: {values!r} ours, {plain.get(tag, {})!r} plain"
        for tag, values in ours.items()
        if not values.items() <= plain.get(tag, {}).items()
    ]


def fewer(operations: tuple[Operation, ...]) -> list[tuple[Operation, ...]]:
    """Shorter lists: without a half, a quarter and so on down to one operation; then with fewer
    rows in one operation.
    """
    shorter = []
    size = len(operations) // 2
    while size:
        shorter += [
            operations[:start] + operations[start + size :]
            for start in range(0, len(operations), size)
        ]
        size //= 2
    for position, operation in enumerate(operations):
        if operation.name == "make" and len(operation.arguments[1]) > 1:
            name, given, how = operation.arguments
            some = (given[: len(given) // 2], given[len(given) // 2 :], given[:-1], given[1:])
            less = [(name, kept, how) for kept in some]
        elif operation.name == "make many" and operation.arguments[3] > 1:
            *same, times = operation.arguments
            less = [(*same, times // 2), (*same, times - 1)]
        else:
            continue
        shorter += [
            (
                *operations[:position],
                replace(operation, arguments=arguments),
                *operations[position + 1 :],
            )
            for arguments in less
        ]
    return shorter
