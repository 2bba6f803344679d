"""How each class would be written, for people: ``print(registration.explain(engine))``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .._ids import catalogue
from .._ids.keys import KeySequence, resolve
from .._rows.plan import insert_plan
from .._writers.copy import no_copy_reason
from ..reports import Writer

__all__ = ["Explanation", "Explanations", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One class: the writer of many rows, the sequence its ids come from, and the reason if the
    writer is not COPY.

    The reason tells what holds for every object. Single objects may still be written otherwise, for
    what they hold: the FlushReport says so.
    """

    model: type[Any]
    path: Writer
    sequence: str | None
    reason: str | None


class Explanations(Sequence[Explanation]):
    """The explanations of several classes; ``str()`` is a table of them."""

    def __init__(self, explanations: Iterable[Explanation]) -> None:
        self._explanations = tuple(explanations)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Explanation]: ...
    def __getitem__(self, index: int | slice) -> Explanation | Sequence[Explanation]:
        return self._explanations[index]

    def __len__(self) -> int:
        return len(self._explanations)

    def __repr__(self) -> str:
        return f"Explanations({list(self._explanations)!r})"

    def __str__(self) -> str:
        rows = [("class", "path", "sequence", "reason")]
        rows += [
            (item.model.__name__, item.path, item.sequence or "-", item.reason or "")
            for item in self._explanations
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def explain(
    connection: Connection,
    mappers: Sequence[Mapper[Any]],
    enrols: Callable[[Mapper[Any]], bool],
    mode: str,
) -> Explanations:
    """Explain each class on this connection's database."""
    if connection.dialect.name != "postgresql":
        reason = f"the database is {connection.dialect.name}"
        return Explanations(Explanation(mapper.class_, "orm", None, reason) for mapper in mappers)
    sources = resolve(connection, mappers)
    return Explanations(
        _explain_one(connection, mapper, sources[mapper], enrols(mapper), mode)
        for mapper in mappers
    )


def _explain_one(
    connection: Connection,
    mapper: Mapper[Any],
    source: KeySequence,
    enrolled: bool,
    mode: str,
) -> Explanation:
    sequence = source.sequence.name if source.sequence else None
    if not enrolled:
        return Explanation(mapper.class_, "orm", None, "the class is not enrolled")
    if mode != "bulk":
        return Explanation(
            mapper.class_, "orm", sequence if mode == "reserve" else None, f"mode is {mode}"
        )
    reason = no_copy_reason(connection.dialect)
    if reason is None and not mapper.batch:
        reason = "the mapper has batch=False"
    for table in mapper.tables:
        if reason is None and isinstance(table, Table):
            name = catalogue.table_name(connection, table)
            facts = catalogue.table_facts(connection, [name])[name]
            if facts is None:
                reason = "the database has no such table"
            else:
                reason = insert_plan(mapper, table, facts, connection.dialect).first_reason()
    return Explanation(
        mapper.class_,
        "copy" if reason is None else "orm",
        sequence,
        reason
        if reason is not None or source.reason is None
        else f"no id is reserved: {source.reason}",
    )
