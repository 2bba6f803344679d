"""What ``bulk_upsert`` does with the rows that it is given: checked, staged, written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, text
from sqlalchemy.orm import Mapper, Session

from .. import _host as host
from .._ids import catalogue
from .._rows.division import divide
from .._rows.plan import Absent, InsertPlan
from .._rows.table import ColumnRows
from .._writers.copy import no_copy_reason, refused_types
from ..errors import ConfigurationError, InvalidRowsError, RowProblem
from .arbiter import Arbiter, find_arbiter, known_arbiter
from .few import FEW, few_rows
from .given import Given, Source
from .inserting import Inserting
from .one_by_one import OneByOne
from .rows import Chunk, chunks, within
from .staging import are_cast, staged_plan, staging
from .update import Update
from .upserting import Outcome, Upserting

__all__ = ["upsert"]

_COMPUTED = text(
    """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
           pg_get_expr(d.adbin, d.adrelid)
      FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = to_regclass(:table) AND a.attname::text = ANY (CAST(:names AS text[]))
    """
)


def upsert(
    session: Session,
    connection: Connection,
    mapper: Mapper[Any],
    rows: Any,
    *,
    conflict: str | Iterable[str],
    update: Iterable[str] | None,
    where: ColumnElement[bool] | None,
    keys: bool,
    changed: bool,
    progress: Callable[[int], object] | None,
    chunk_rows: int | None,
) -> tuple[int, Outcome]:
    """Upsert the rows; return how many there were, and what became of them.

    :param keys: whether each row's key is wanted.
    :param changed: whether the keys of the rows that were updated are.
    """
    stream = within(session, rows, chunks(rows, chunk_rows, mapper))
    first = next(stream, None)
    whole = Inserting(session, connection, mapper, None, progress)
    if len(whole.tables) != 1:
        names = ", ".join(table.name for table in whole.tables)
        raise ConfigurationError(
            f"{mapper.class_.__name__} is stored in several tables ({names}), and ON CONFLICT is "
            "about one. Expected a class of one table"
        )
    if first is None:
        _checked_update(mapper, update, ())
        return 0, Outcome(0, 0)
    conflict = conflict if isinstance(conflict, str) else tuple(conflict)
    name = catalogue.table_name(connection, whole.tables[0])
    arbiter = known_arbiter(connection, mapper, name, conflict)
    compared = [arbiter.facts] if arbiter is not None else []
    pinned = whole.pin(indexes=compared) is not None
    if not pinned:
        catalogue.forget(connection, [name])
        whole.look()
    plan = whole.plans[whole.tables[0]]
    if plan is None:
        raise ConfigurationError(f"The database has no table {name}")
    if arbiter is None or not compared:
        arbiter = find_arbiter(connection, mapper, plan.facts.name, conflict)
    first = whole.filled(first)
    given = _given(first)
    staged_columns, computed = _needed(connection, plan, arbiter, given)
    overwritten = _checked_update(mapper, update, given, arbiter)
    sequence = None
    source = whole.source
    if source.sequence is not None and source.key.column is not None and not source.others:
        sequence = (source.key.column, source.sequence.name)
    required, why = whole.required()
    why.update((name, f"has no value, and {arbiter.name} looks at it") for name in staged_columns)
    _check(whole, first, 0, given, required, why)
    staged = staged_plan(plan, given, _constants(mapper, given))

    interference = host.interference(connection)
    sent: list[Mapping[str, Any]] = []

    def write(source: Source, total: int) -> tuple[int, Outcome]:
        rows = Given(source, plan, arbiter, total)
        change = Update(overwritten, where)
        if interference is None:
            upserting = Upserting(rows, sequence, change)
        else:
            upserting = OneByOne(rows, change, sent, interference)
        return total, upserting.run(keys=keys, changed=changed)

    by_copy = (
        pinned
        and interference is None
        and no_copy_reason(connection) is None
        and refused_types(connection, staged) is None
    )
    division = None
    if by_copy and len(first) <= FEW and not (computed or arbiter.collated):
        division = divide(staged, first, connection)
        following = next(stream, None)
        found = None
        if following is None and not are_cast(staged, division):
            found = few_rows(staged, division)
        if found is not None:
            if whole.progress is not None:
                whole.progress.sent(len(first))
            return write(Source(connection, found, staged, is_table=False), len(first))
        stream = chain([following] if following is not None else [], stream)
    with staging(connection, staged, computed, by_copy=by_copy) as table:
        if interference is not None:
            table.kept = sent
        table.add(first, 0, whole.progress, division)
        total = len(first)
        for chunk in map(whole.filled, stream):
            _check(whole, chunk, total, given, required, why)
            table.add(chunk, total, whole.progress)
            total += len(chunk)
        total, outcome = write(table.source, total)
    if by_copy:
        outcome.writer = "copy"
    outcome.reason = interference
    return total, outcome


def _given(rows: Chunk) -> frozenset[str]:
    if isinstance(rows, ColumnRows):
        return frozenset(rows.columns)
    found: Any = rows[0]
    return frozenset(found) if isinstance(found, Mapping) else frozenset()


def _constants(mapper: Mapper[Any], given: frozenset[str]) -> dict[str, Any]:
    polymorphic = host.polymorphic_attribute(mapper)
    if polymorphic is None or polymorphic in given:
        return {}
    return {polymorphic: mapper.polymorphic_identity}


def _check(
    whole: Inserting,
    rows: Chunk,
    start: int,
    given: frozenset[str],
    required: Sequence[str],
    why: Mapping[str, str],
) -> None:
    """Refuse rows that no INSERT could take, and those that give other attributes than the first:
    what would become of the others in a row that is there?
    """
    whole.check(rows, start, required, why)
    if isinstance(rows, ColumnRows):
        alike = rows.columns.keys() == given
    else:
        alike = all(map(given.__eq__, map(frozenset, rows)))
    if alike:
        return
    problems = [
        RowProblem(index, key, "is given by some rows and not by others: expected all or none")
        for index, row in enumerate(rows, start)
        for key in sorted(given.symmetric_difference(row))
    ]
    raise InvalidRowsError(
        f"{whole.mapper.class_.__name__}: rows must give the same attributes as row 0 "
        "does; nothing was written",
        problems,
    )


def _needed(
    connection: Connection, plan: InsertPlan, arbiter: Arbiter, given: frozenset[str]
) -> tuple[list[str], dict[str, str]]:
    """The attributes that the arbiter looks at, and those of its columns that the database
    computes, each with its definition.

    :raises ConfigurationError: it looks at a column that the rows do not give.
    """
    attributes: list[str] = []
    computed: list[str] = []
    lacking: list[str] = []
    by_name = {item.column.name: item for item in plan.columns}
    for name in sorted(arbiter.needed):
        item = by_name.get(name)
        if plan.facts.columns[name].generated:
            computed.append(name)
        elif item is None or not (item.attribute in given or item.absent is Absent.DEFAULT):
            lacking.append(item.attribute or name if item is not None else name)
        elif item.attribute is not None:
            attributes.append(item.attribute)
    if lacking:
        raise ConfigurationError(
            f"{arbiter.name} of {plan.facts.name} looks at {', '.join(lacking)}, which the rows do "
            "not give; so it cannot be told whether they are there. Give it in every row"
        )
    found: dict[str, str] = {}
    if computed:
        names = {"table": plan.facts.name, "names": computed}
        for name, kind, expression in connection.execute(_COMPUTED, names):
            found[name] = f"{kind} GENERATED ALWAYS AS ({expression})"
    return attributes, found


def _checked_update(
    mapper: Mapper[Any],
    update: Iterable[str] | None,
    given: Iterable[str],
    arbiter: Arbiter | None = None,
) -> tuple[Column[Any], ...]:
    """The columns to overwrite.

    :raises ConfigurationError: one is none of the class's, or the rows do not give it.
    """
    columns = {prop.key: prop.columns[0] for prop in mapper.column_attrs}
    if update is None:
        fixed = set(arbiter.columns) if arbiter is not None else set()
        chosen = [
            key
            for key in sorted(given)
            if key in columns
            and columns[key].name not in fixed
            and columns[key] not in mapper.primary_key
        ]
    else:
        chosen = [update] if isinstance(update, str) else list(update)
        unknown = [key for key in chosen if key not in columns]
        if unknown:
            raise ConfigurationError(
                f"update={update!r}: {mapper.class_.__name__} has no column {', '.join(unknown)}"
            )
        lacking = sorted(set(chosen).difference(given)) if arbiter is not None else []
        if lacking:
            raise ConfigurationError(
                f"update={update!r}: the rows do not give {', '.join(lacking)}. Expected "
                "attributes that every row gives"
            )
    found = []
    for key in chosen:
        item = columns[key]
        assert isinstance(item, Column)
        found.append(item)
    return tuple(found)
