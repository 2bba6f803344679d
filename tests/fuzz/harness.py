"""Writes one batch of values by plain SQLAlchemy and by a registered session, and reduces a
difference to few values.

A case is a batch for one type over one column, on one driver, in one way of writing. Compared are
the rows as PostgreSQL's text, and the attributes after the flush and after a reload; or the
exception's class and SQLSTATE.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from fixtures.sides import DRIVERS, Side, Way, refusal
from fixtures.tables import empty
from fuzz.kinds import DDL, KINDS, Kind
from sqlalchemy import ARRAY, Column, Integer, MetaData, Table, create_engine, text
from sqlalchemy.dialects.postgresql import MACADDR
from sqlalchemy.orm import Session, registry
from sqlalchemy.sql.elements import Null

__all__ = ["Difference", "Harness", "Report"]

WAYS: Final = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("reserve", {"mode": "reserve"}),
    Way("bulk_insert", {"copy_min_rows": 1}, as_mappings=True),
    Way("bulk_upsert", as_mappings=True, upserts=True),
)
MOODS: Final = ("good", "nasty", "mixed", "pair", "twins")
SIZES: Final = (1, 2, 5, 12)
ZONES: Final = ("UTC", "America/New_York")


@dataclass(frozen=True)
class Case:
    """One batch. ``as_text``: the table has a column for which COPY has no binary format."""

    kind: Kind
    column: str
    values: Sequence[Any]
    zone: str
    as_text: bool
    driver: str
    way: Way

    def __str__(self) -> str:
        return (
            f"{self.kind.type_!r} over {self.column}{' beside macaddr' if self.as_text else ''}, "
            f"{self.way} on {self.driver}, TimeZone {self.zone}: {list(self.values)!r}"
        )


@dataclass(frozen=True)
class Difference:
    """A case in which plain SQLAlchemy and this package differ, with as few values as possible."""

    case: Case
    where: str
    plain: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.case}\n    plain {self.plain!r}\n    ours  {self.ours!r}"


@dataclass
class Report:
    """The cases of a run, and the differences that it found."""

    seed: int
    cases: Counter[str] = field(default_factory=Counter)
    writers: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    differences: list[Difference] = field(default_factory=list)
    seen: dict[tuple[str, ...], Counter[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        found = sum(counts.total() for counts in self.seen.values())
        lines = [
            f"seed {self.seed}: {self.cases.total()} cases, "
            f"{self.refused} refused by plain SQLAlchemy, "
            f"{found} differences of {len(self.seen)} classes",
            f"  cases: {_listed(self.cases)}",
            f"  rows by writer: {_listed(self.writers)}",
        ]
        for difference, counts in zip(self.differences, self.seen.values(), strict=True):
            lines += [str(difference), f"    in {_listed(counts)}"]
        return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


class Harness:
    """Sessions of both sides on every driver, and a table for every pair of types."""

    ways: Sequence[Way] = WAYS

    def __init__(self, urls: tuple[str, str], seed: int, drivers: Sequence[str] = DRIVERS) -> None:
        self.chance, self.report = Random(seed), Report(seed)
        self.drivers = drivers
        self._urls = urls
        self._models: dict[tuple[str, str, bool], type[Any]] = {}
        self._mappers, self._metadata = registry(), MetaData()
        self._last: tuple[Any, dict[Any, dict[str, Any]]] = (None, {})
        self._sides: dict[tuple[str, str], Side] = {}
        self._engines = [create_engine(url) for url in urls]

    @contextlib.contextmanager
    def ready(self) -> Iterator[Harness]:
        """Empties both databases and creates the types that the table of types names, for the
        block.
        """
        for engine in self._engines:
            empty(engine.url)
            with engine.begin() as connection:
                for statement in DDL:
                    connection.exec_driver_sql(statement)
        try:
            yield self
        finally:
            for side in self._sides.values():
                side.close()
            for engine in self._engines:
                engine.dispose()
            self._mappers.dispose()

    def run(
        self,
        seconds: float,
        *,
        kinds: Sequence[Kind] = KINDS,
        rounds: int = 1,
        moods: Sequence[str] = MOODS,
        drifted: bool = True,
    ) -> Report:
        """Try pairs of types in random order, until all were tried or the time is up.

        :param drifted: include columns of another type than the model's.
        """
        deadline = time.monotonic() + seconds
        pairs = [
            (kind, column)
            for kind in kinds
            for column in kind.columns
            if drifted or column == kind.own
        ] * rounds
        self.chance.shuffle(pairs)
        for kind, column in pairs:
            for case in self._cases(kind, column, moods):
                if time.monotonic() > deadline:
                    return self.report
                self._try(case)
        return self.report

    def _cases(self, kind: Kind, column: str, moods: Sequence[str]) -> Iterator[Case]:
        chance = self.chance
        for mood in moods:
            size = 2 if mood in {"pair", "twins"} else chance.choice(SIZES)
            batch = kind.values(chance, mood, size)
            zone, as_text = chance.choice(ZONES), chance.random() < 1 / 4
            cases = [
                Case(kind, column, batch, zone, as_text and driver != "asyncpg", driver, way)
                for driver in self.drivers
                for way in self.ways
            ]
            # If plain SQLAlchemy refuses the kind's good values, one driver is enough to see that
            # this package refuses them too.
            refused = mood == "good" and self.is_refused(cases[0])
            yield from cases[: len(self.ways)] if refused else cases
            if refused:
                return

    def _try(self, case: Case) -> None:
        self.report.cases[f"{case.way} on {case.driver}"] += 1
        found = self.compare(case, count=True)
        if found is None:
            return
        group = (case.kind.name, case.column, found.where)
        if group not in self.report.seen:
            self.report.differences.append(self._smallest(found))
        self.report.seen.setdefault(group, Counter())[f"{case.way} on {case.driver}"] += 1

    def _plain(self, case: Case) -> dict[str, Any]:
        """Plain SQLAlchemy's result for the batch, calculated once for objects, once for mappings
        with keys, and once for mappings without.
        """
        way = (case.way.as_mappings, case.way.upserts)
        key = (case.driver, way, case.as_text, case.zone)
        if self._last[0] is not case.values:
            self._last = (case.values, {})
        known = self._last[1]
        if key not in known:
            known[key] = self._flush(self._side(case, registered=False), case)
        return known[key]

    def _smallest(self, found: Difference) -> Difference:
        """The same difference, with as few values as possible."""
        smaller = True
        while smaller and len(found.case.values) > 1:
            smaller = False
            for position in range(len(found.case.values)):
                fewer = [v for index, v in enumerate(found.case.values) if index != position]
                case = Case(**{**vars(found.case), "values": fewer})
                again = self.compare(case)
                if again is not None and again.where == found.where:
                    found, smaller = again, True
                    break
        return found

    def compare(self, case: Case, *, count: bool = False) -> Difference | None:
        """Write the batch on both sides, and return a difference if there is one."""
        plain = self._plain(case)
        side = self._side(case, registered=True)
        side.reports.clear()
        ours = self._flush(side, case)
        if count:
            self.report.refused += "error" in plain
            for report in side.reports:
                for entry in report.entries:
                    self.report.writers[f"{entry.writer} on {case.driver}"] += entry.rows
        if len(case.values) > 1 and "error" in plain and "error" in ours:
            # If several values are wrong, the two sides may report different ones first.
            return None
        for where in ("error", "sqlstate", "stored", "after", "loaded"):
            if plain.get(where) != ours.get(where):
                return Difference(case, where, plain.get(where), ours.get(where))
        return None

    def writers(self, case: Case) -> set[str]:
        """The writers of the rows of the case that was compared last."""
        return {writer for writer, _ in self._side(case, registered=True).writers()}

    def is_refused(self, case: Case) -> bool:
        """Whether plain SQLAlchemy refuses the batch."""
        return "error" in self._plain(case)

    def _side(self, case: Case, *, registered: bool) -> Side:
        key = (case.driver, case.way.name if registered else f"plain {case.way.as_mappings}")
        if key not in self._sides:
            url = self._urls[registered]
            self._sides[key] = Side(url, case.way, registered=registered, driver=case.driver)
        return self._sides[key]

    def _model(self, case: Case) -> type[Any]:
        """A class for the pair of types, with a table on both sides."""
        kind, column = case.kind, case.column
        # asyncpg cannot COPY into a table with such a column.
        is_bare = case.driver == "asyncpg"
        key = (kind.name, column, is_bare)
        if key not in self._models:
            name = f"holder{len(self._models)}"
            beside = "" if is_bare else ", beside macaddr"
            statement = f"CREATE TABLE {name} (id serial PRIMARY KEY, value {column}{beside})"
            for engine in self._engines:
                with engine.begin() as connection:
                    connection.exec_driver_sql(statement)
            table = Table(
                name,
                self._metadata,
                Column("id", Integer, primary_key=True),
                Column("value", kind.type_),
                *([] if is_bare else [Column("beside", MACADDR)]),
            )
            model: type[Any] = type(
                name.title(), (), {"__init__": lambda self, **given: vars_set(self, given)}
            )
            self._mappers.map_imperatively(model, table)
            self._models[key] = model
        return self._models[key]

    def _flush(self, side: Side, case: Case) -> dict[str, Any]:
        model = self._model(case)
        name = model.__name__.lower()

        def flush(session: Session) -> dict[str, Any]:
            session.execute(text(f"SET LOCAL TimeZone = '{case.zone}'"))
            # Plain SQLAlchemy takes no SQL expression in a bulk INSERT of mappings.
            as_mappings = case.way.as_mappings
            rows = [
                {
                    "value": None if as_mappings and isinstance(value, Null) else value,
                    **({"beside": "08:00:2b:01:02:03"} if case.as_text else {}),
                    **({"id": position} if case.way.upserts else {}),
                }
                for position, value in enumerate(case.values, 1)
            ]
            found: dict[str, Any] = {}
            try:
                if case.way.as_mappings:
                    keys = side.write(session, model, rows)
                else:
                    items = [model(**row) for row in rows]
                    session.add_all(items)
                    session.flush()
                    keys = [item.id for item in items]
                    found["after"] = [repr(vars(i).get("value", "(unloaded)")) for i in items]
                found["stored"] = list(
                    session.scalars(
                        text(f"SELECT value::text FROM {name} WHERE id = ANY(:keys) ORDER BY id"),
                        {"keys": keys},
                    )
                )
                session.expire_all()
                if loads(case):
                    found["loaded"] = [repr(session.get_one(model, key).value) for key in keys]
            except Exception as error:
                return {"error": refusal(error)[0], "sqlstate": refusal(error)[2]}
            finally:
                session.rollback()
            return found

        return side.run(flush)


def loads(case: Case) -> bool:
    """Whether the value is loaded again. Drivers return arrays of some types as text; SQLAlchemy's
    processing of arrays recurses into the text until the stack overflows, which ends the process.
    """
    return not isinstance(case.kind.type_, ARRAY)


def vars_set(item: Any, given: dict[str, Any]) -> None:
    """Set attributes, as the constructor of a declarative class does."""
    for name, value in given.items():
        setattr(item, name, value)
