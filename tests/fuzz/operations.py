"""Random sequences of a session's operations."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from fuzz.columns import KINDS
from fuzz.shapes import Blueprint

__all__ = ["Operation", "draw_operations"]


@dataclass(frozen=True)
class Operation:
    """An operation, and what to do if it fails: roll back everything, or a savepoint, or
    nothing.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    after: str = "rollback"

    def __str__(self) -> str:
        arguments = ", ".join(map(repr, self.arguments))
        return (
            f"{self.name}({arguments}){'' if self.after == 'rollback' else f' else {self.after}'}"
        )


WEIGHTS: Final = {
    "make": 8,
    "make many": 2,
    "set": 6,
    "set all": 4,
    "relate": 8,
    "delete": 4,
    "delete all": 1,
    "merge": 3,
    "merge anew": 2,
    "add": 3,
    "add all": 2,
    "expire": 2,
    "expire attribute": 1,
    "refresh": 2,
    "expunge": 2,
    "make transient": 1,
    "read": 3,
    "query": 2,
    "change in place": 1,
    "delete behind": 1,
    "same key": 1,
    "look": 2,
    "flush": 8,
    "commit": 4,
    "rollback": 1,
    "begin": 5,
    "release": 2,
    "undo": 3,
}
PLAIN: Final = frozenset({"flush", "commit", "rollback", "begin", "release", "undo", "look"})

AFTER: Final = ("rollback", "rollback", "savepoint", "savepoint", "nothing")


def draw_operations(chance: Random, blueprint: Blueprint, count: int) -> list[Operation]:
    """Draw ``count`` operations, some with values that the database refuses."""
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    badness = chance.choice((0.0, 0.02, 0.1))

    def value(kind: str) -> Any:
        bad = KINDS[kind].bad
        return chance.choice(bad if bad and chance.random() < badness else KINDS[kind].good)

    def values(name: str) -> dict[str, Any]:
        given = {}
        for kind in blueprint.columns(name):
            needed = kind == "needed" and chance.random() > badness
            if KINDS[kind].good and (needed or chance.random() < 1 / 2):
                given[kind.replace(" ", "_")] = value(kind)
        return given

    drawn = []
    for name in chance.choices(names, weights, k=count):
        model = chance.choice(blueprint.shapes).name
        first, second, third = (chance.randrange(40) for _ in range(3))
        arguments: tuple[Any, ...] = ()
        if name == "make":
            some = chance.choice((1, 1, 2, 3, 6))
            given = [values(model) for _ in range(some)]
            arguments = (model, given, chance.choice(("add", "add", "add", "leave", "key")))
        elif name == "make many":
            arguments = (model, [values(model)], "add", chance.choice((20, 120)))
        elif name in {"set", "set all", "expire attribute"}:
            kinds = blueprint.columns(model)
            if kinds:
                kind = chance.choice(kinds)
                if KINDS[kind].good:
                    arguments = (model, kind.replace(" ", "_"), value(kind))
                    every = chance.choice((1, 1, 2, 7))
                    arguments = (*arguments, every) if name == "set all" else (first, *arguments)
        elif name == "delete all":
            arguments = (model, chance.choice((1, 2, 7)))
        elif name == "merge":
            arguments = (first, values(model))
        elif name == "merge anew":
            arguments = (model, values(model), chance.choice((True, False)))
        elif name == "add all":
            arguments = (first, second, third)
        elif name == "query":
            arguments = (model,)
        elif name in {"relate", "read"}:
            arguments = (first, second, third)
        elif name == "same key":
            arguments = (first, values(model))
        else:
            arguments = (first,) if name not in PLAIN else ()
        if arguments or name in PLAIN:
            drawn.append(Operation(name, arguments, chance.choice(AFTER)))
    return drawn
