"""Divides the rows of one class for one table into those that COPY writes and those that SQLAlchemy
must write itself.

It works by columns, not by rows: it takes one attribute of every row at a time, so one ``set`` of
types shows which kinds of values a column holds, and one call checks or converts them all. Rows
with SQL expressions, without a key, or with values that the server would cast are separated, with
the reason. No row is changed, and no I/O happens here except in defaults.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Column, Connection
from sqlalchemy.sql import ClauseElement

from .. import _reasons as why
from .._reasons import Reason
from .batches import Batch, Division
from .copy_values import ColumnTypes, for_copy
from .encoded import ReadyMade
from .plan import Absent, ColumnPlan, InsertPlan
from .python_defaults import DefaultContext, FilledValues
from .table import ColumnRows

_NOTHING_GIVEN: Final[Mapping[str, Sequence[Any]]] = {}
_NONE_RESERVED: Final[Mapping[str, Container[int]]] = {}


def runs_in_order(parts: Sequence[Sequence[int]]) -> list[tuple[int, Sequence[int]]]:
    """Merge the positions of several parts into their order: runs of positions of the same part,
    each with the part's index.
    """
    owners = sorted((position, part) for part, found in enumerate(parts) for position in found)
    return [
        (part, [position for position, _ in run])
        for part, run in groupby(owners, key=itemgetter(1))
    ]


def divide(
    plan: InsertPlan,
    rows: Sequence[Mapping[str, Any]],
    connection: Connection,
    given: Mapping[str, Sequence[Any]] = _NOTHING_GIVEN,
    *,
    used: Container[str] | None = None,
    fewest: int = 1,
    reserved: Mapping[str, Container[int]] = _NONE_RESERVED,
) -> Division:
    """Divide the rows, mappings of attribute key to value, without changing any.

    :param given: attribute key -> one value per row, used in place of the row's own.
    :param used: the attributes that at least one row has; ``None``: not known.
    :param fewest: the smallest number of rows of a kind that is written by COPY.
    :param reserved: attribute of the key -> positions of the rows whose value was reserved. INSERT
        would omit it, so defaults must not see it. Needed only if a default takes a context.
    """
    division = Division()
    if plan.reason is not None:
        division.elsewhere[plan.reason] = list(range(len(rows)))
        return division
    types: ColumnTypes = {}
    collected, elsewhere, groups = _collect(plan, rows, given, used, types)
    reason = _statement_reason(plan)
    if reason is not None and (
        len(groups) + len(elsewhere) > 1
        or _gives_some(plan, collected, len(rows), reserved)
        or (plan.sentinel is not None and (len(rows) == 1 or _gives_keys(plan, collected)))
    ):
        division.elsewhere[reason] = list(range(len(rows)))
        return division
    kinds: Iterable[Sequence[int]] = groups.values()
    if plan.keeps_order and len(groups) + len(elsewhere) > 1:
        ordered = runs_in_order([*groups.values(), *elsewhere.values()])
        kinds = [positions for kind, positions in ordered if kind < len(groups)]
    for positions in kinds:
        # Before any default is computed, because the writer of the row will compute it.
        if len(positions) < fewest:
            elsewhere.setdefault(why.FEW_OF_THEIR_KIND, []).extend(positions)
            continue
        whole = len(positions) == len(rows)
        chosen = [
            (column, values if whole or not values else [values[i] for i in positions])
            for column, values in zip(plan.columns, collected, strict=True)
        ]
        if plan.sentinel is not None:
            chosen.append((plan.sentinel, range(len(positions))))
        outcome = _batch(
            range(len(rows)) if whole else positions, chosen, connection, types, reserved
        )
        if isinstance(outcome, Batch):
            division.batches.append(outcome)
        else:
            elsewhere.setdefault(outcome, []).extend(positions)
    division.elsewhere = elsewhere
    return division


def _statement_reason(plan: InsertPlan) -> Reason | None:
    """Why SQLAlchemy must write rows that it would write in several statements."""
    if plan.context_default is not None:
        # A default may read the rows that the statements before have written.
        return why.context_default(plan.context_default)
    # Each statement counts its own rows.
    return why.sentinel(plan.sentinel.column.name) if plan.sentinel is not None else None


def _gives_keys(plan: InsertPlan, collected: Sequence[Sequence[Any]]) -> bool:
    """Whether a row gives its key, or a part of it."""
    return any(
        value is not column.nothing
        for column, values in zip(plan.columns, collected, strict=True)
        if column.column.primary_key
        for value in values
    )


def _gives_some(
    plan: InsertPlan,
    collected: Sequence[Sequence[Any]],
    rows: int,
    reserved: Mapping[str, Container[int]],
) -> bool:
    """Whether some of the rows, but not all, give a column that has a default, or a key."""
    for column, values in zip(plan.columns, collected, strict=True):
        if column.absent is Absent.DEFAULT and not column.is_of_class:
            nothing = column.nothing
            if 0 < sum(value is nothing for value in values) < rows:
                return True
    return any(
        0 < sum(position in found for position in range(rows)) < rows for found in reserved.values()
    )


def _collect(
    plan: InsertPlan,
    rows: Sequence[Mapping[str, Any]],
    given: Mapping[str, Sequence[Any]],
    used: Container[str] | None,
    kinds: ColumnTypes,
) -> tuple[list[Sequence[Any]], dict[Reason, list[int]], dict[Any, Sequence[int]]]:
    """Collect the values of every column; the positions of rows to be written elsewhere; and the
    other positions, grouped by the columns that they omit.
    """
    collected: list[Sequence[Any]] = []
    refused: dict[int, Reason] = {}
    omissions: list[list[bool]] = []
    for column in plan.columns:
        attribute, absent = column.attribute, column.absent
        if column.is_version or attribute is None:
            collected.append([None] * len(rows))
            if absent is Absent.ELSEWHERE:
                reason = why.sql_default(column.column.name)
                for position in range(len(rows)):
                    refused.setdefault(position, reason)
            continue
        nothing: Any = column.nothing
        if attribute in given:
            values = given[attribute]
        elif used is not None and attribute not in used:
            values = [nothing] * len(rows)
        else:
            values = values_of(rows, attribute, nothing)
        types = set(map(type, values))
        kinds[id(values)] = values, types
        if any(is_sql(type_) for type_ in types):
            reason = why.sql_expression(attribute)
            for position, value in enumerate(values):
                if is_sql(type(value)):
                    refused.setdefault(position, reason)
        if type(nothing) in types:
            if absent is Absent.ELSEWHERE:
                reason = (
                    why.no_value(attribute)
                    if column.column.primary_key
                    else why.sql_default(attribute)
                )
                for position, value in enumerate(values):
                    if value is nothing:
                        refused.setdefault(position, reason)
            elif absent is Absent.OMITTED:
                if types == {type(nothing)}:
                    values = []
                else:
                    omissions.append([value is nothing for value in values])
        collected.append(values)
    elsewhere: dict[Reason, list[int]] = {}
    for position, reason in refused.items():
        elsewhere.setdefault(reason, []).append(position)
    if not refused and not omissions:
        return collected, elsewhere, {(): range(len(rows))}
    groups: dict[Any, Any] = {}
    patterns = zip(*omissions, strict=True) if omissions else iter(lambda: (), None)
    for position, pattern in zip(range(len(rows)), patterns, strict=False):
        if position not in refused:
            groups.setdefault(pattern, []).append(position)
    return collected, elsewhere, groups


def values_of(
    rows: Sequence[Mapping[str, Any]], attribute: str, nothing: object = None
) -> list[Any]:
    """Return the values of one attribute, one per row; ``nothing`` if a row, a ``dict``, has
    none.
    """
    if isinstance(rows, ColumnRows):
        return rows.values(attribute, nothing)
    try:
        # Takes half the time of the loop below, and most rows have most attributes.
        return list(map(itemgetter(attribute), rows))
    except KeyError:
        return [row.get(attribute, nothing) for row in rows]


def _batch(
    positions: Sequence[int],
    chosen: list[tuple[ColumnPlan, Sequence[Any]]],
    connection: Connection,
    types: ColumnTypes,
    reserved: Mapping[str, Container[int]],
) -> Batch | Reason:
    """Return the batch of these rows, or the reason why SQLAlchemy must write them."""
    ready: list[tuple[ColumnPlan, Sequence[Any]]] = []
    omitted: list[Column[Any]] = []
    for plan, values in chosen:
        if plan.absent is Absent.OMITTED and (not values or values[0] is plan.nothing):
            omitted.append(plan.column)
            continue
        if plan.codec is None:
            assert plan.reason is not None
            return plan.reason
        ready.append((plan, values))
    # Process the user's values before any default is computed. If that fails, SQLAlchemy will meet
    # the same value, and a default must not be called twice.
    processed: dict[int, Sequence[Any]] = {}
    ready_made = ReadyMade.of((plan for plan, _ in ready), connection.dialect)
    for index, (plan, values) in enumerate(ready):
        if plan.default is None:
            try:
                processed[index] = ready_made.make(index, plan, values)
            except Exception as error:
                return why.not_processed(plan.column.name, type(error).__name__)
    defaults: dict[str, FilledValues] = {}
    context = DefaultContext(connection, ready, positions, reserved)
    before, ready = ready, context.filled()
    for index, (plan, filled) in enumerate(ready):
        if plan.default is not None:
            values = before[index][1]
            if filled is not values and plan.attribute is not None:
                defaults[plan.attribute] = FilledValues(filled, values, plan.nothing)
            try:
                processed[index] = ready_made.make(index, plan, filled)
            except Exception as error:
                raise context.in_statement(error, plan.column) from error
    batch = Batch(
        positions=positions,
        plans=[plan for plan, _ in ready],
        columns=[plan.column.name for plan, _ in ready],
        oids=[plan.codec.oid for plan, _ in ready if plan.codec is not None],
        given=[values for _, values in ready],
        values=[processed[index] for index in range(len(ready))],
        defaults=defaults,
        omitted=omitted,
    )
    for index in ready_made.encoded:
        # SQLAlchemy calls the type's processor itself if it writes the rows after all.
        batch.plans[index] = replace(batch.plans[index], processor=None)
    _make_ready_for_copy(batch, connection, types, ready_made)
    return batch


def _make_ready_for_copy(
    batch: Batch, connection: Connection, types: ColumnTypes, ready_made: ReadyMade
) -> None:
    """Convert the values to those that COPY writes as INSERT would, or record why that is
    impossible.
    """
    for index, (plan, values) in enumerate(zip(batch.plans, batch.values, strict=True)):
        assert plan.codec is not None
        if index in ready_made.encoded:
            if batch.copy_reason is None:
                batch.copy_values.append(ready_made.encoded[index].values)
            continue
        if batch.copy_reason is not None and plan.codec.casts_each:
            continue
        outcome = for_copy(plan.codec, plan.column, values, connection, types)
        if isinstance(outcome, Reason):
            outcome = ready_made.refused.get(index, outcome)
            batch.copy_reason, batch.copy_values = batch.copy_reason or outcome, []
            batch.casts = batch.casts or not plan.codec.casts_each
            continue
        if batch.copy_reason is not None:
            continue
        converted, is_text = outcome
        batch.copy_values.append(converted)
        batch.binary = batch.binary and not is_text
    if batch.copy_reason is None:
        batch.copy_reason = ready_made.in_one_format(batch, connection)


def is_sql(type_: type) -> bool:
    """Whether values of a type are SQL expressions."""
    return issubclass(type_, ClauseElement) or hasattr(type_, "__clause_element__")


def is_plain(value: object) -> bool:
    """Whether a value could be given to a driver, so that it is not an SQL expression."""
    return not is_sql(type(value))
