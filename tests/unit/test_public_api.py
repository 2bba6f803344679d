"""The public API as it stands: a change of it is meant, and is in the changelog.

The snapshot is what the version's first numbers speak of. Where the test fails and the change is
meant, write it anew, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import sqla_seqreserve
from sqla_seqreserve import Registration, aio

SNAPSHOT = Path(__file__).with_name("public_api.txt")

MODULES = (
    "sqla_seqreserve",
    "sqla_seqreserve.aio",
    "sqla_seqreserve.alembic_plugin",
    "sqla_seqreserve.embedded",
    "sqla_seqreserve.errors",
    "sqla_seqreserve.health",
    "sqla_seqreserve.metrics",
    "sqla_seqreserve.testing",
    "sqla_seqreserve.web",
)


def described(module: str) -> list[str]:
    """Return a line for each public name of a module: functions with their parameters, classes
    with their public members.
    """
    lines: list[str] = []
    names = import_module(module)
    for name in names.__all__:
        value = getattr(names, name)
        if inspect.isclass(value):
            bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
            lines.append(f"{module}.{name}({bases})")
            lines += [f"{module}.{name}.{line}" for line in members(value)]
        elif callable(value):
            lines.append(f"{module}.{name}{parameters(value)}")
        else:
            lines.append(f"{module}.{name}")
    return lines


def members(cls: type[Any]) -> list[str]:
    """Return the public members that a class of ours defines itself."""
    found = {*vars(cls), *vars(cls).get("__annotations__", {})}
    lines = []
    for name in sorted(found):
        if not name.startswith("_"):
            value = inspect.getattr_static(cls, name, None)
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            lines.append(name + (parameters(plain) if inspect.isfunction(plain) else ""))
    return lines


def parameters(function: Any) -> str:
    """Return the names of the parameters, their kinds and defaults, without annotations."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    shown = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", shown)


@pytest.mark.parametrize("module", MODULES)
def test_the_public_api_is_what_the_snapshot_says(module: str) -> None:
    """Every public name, parameter and default is one that somebody may rely on."""
    pattern = re.compile(rf"{re.escape(module)}\.\w+")
    known = [
        line
        for line in SNAPSHOT.read_text(encoding="utf-8").splitlines()
        if pattern.match(line) and owner_of(line) == module
    ]
    found = described(module)
    gone, new = sorted(set(known) - set(found)), sorted(set(found) - set(known))

    assert not gone + new, "\n".join(
        [
            "the public API changed; if that is meant: "
            "python tests/unit/test_public_api.py, and a line in CHANGELOG.md",
            *(f"- {line}" for line in gone),
            *(f"+ {line}" for line in new),
        ]
    )


def owner_of(line: str) -> str:
    """Return the module that a line of the snapshot speaks of: the longest that it begins with."""
    return max((m for m in MODULES if line.startswith(f"{m}.")), key=len)


@pytest.mark.parametrize("name", [name for name in aio.__all__ if name.islower()])
def test_what_is_awaited_takes_what_its_twin_takes(name: str) -> None:
    """A function of aio has the parameters of its twin, in their order and with their defaults."""
    if name == "explain":
        twin = partial(Registration.explain, "the registration")
        awaited = partial(aio.explain, "the registration")
    else:
        twin, awaited = getattr(sqla_seqreserve, name), getattr(aio, name)

    assert parameters(awaited) == parameters(twin)


def test_the_version_is_one() -> None:
    """The version is a release's, or one that comes before it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?", sqla_seqreserve.__version__)


if __name__ == "__main__":
    text = "\n".join(line for module in MODULES for line in described(module))
    SNAPSHOT.write_text(f"{text}\n", encoding="utf-8")
