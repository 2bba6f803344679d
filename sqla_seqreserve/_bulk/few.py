"""Few rows within the statement that writes them, by ``unnest()`` of an array a column.

A temporary table costs round trips and rows of the catalogue, whatever is put into it. Arrays keep
the statement's text the same for any number of rows, so that it is compiled, and prepared, once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, Final

from sqlalchemy import BigInteger, FromClause, bindparam, cast, column, func, select
from sqlalchemy.types import UserDefinedType

from .._ids.catalogue import ColumnFacts
from .._rows.division import Division
from .._rows.plan import InsertPlan
from .given import NUMBER, named

FEW: Final = 200
"""More rows than these are written faster by COPY than a driver makes arrays of them."""

_TYPES: Final = frozenset(
    {
        *("bool", "date", "float4", "float8", "int2", "int4", "int8", "numeric"),
        *("text", "timestamp", "timestamptz", "uuid", "varchar"),
    }
)
"""Types whose arrays every driver sends, and of which a cast makes what INSERT makes of a value.
``unnest()`` takes arrays of arrays apart; types of a fixed length are padded or cut by a cast.
"""

_LENGTH: Final = re.compile(r"character varying\((\d+)\)")


class _AsItIs(UserDefinedType[Any]):
    """Values that are processed already; or, by name, a type of the database."""

    cache_ok = True

    def __init__(self, name: str = "") -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def few_rows(plan: InsertPlan, division: Division) -> FromClause | None:
    """The rows as a FROM clause; ``None`` where an array might not hold what INSERT would write.

    :param plan: the columns that the rows give.
    """
    if len(division.batches) != 1 or division.elsewhere or division.batches[0].copy_reason:
        return None
    batch = division.batches[0]
    if any(item.encoding is not None for item in batch.plans):
        return None
    numbers = bindparam("rows", list(batch.positions), type_=_AsItIs())
    arrays: list[Any] = [cast(numbers, _AsItIs("bigint[]"))]
    columns: list[Any] = [column(NUMBER, BigInteger)]
    for index, (item, values) in enumerate(zip(batch.plans, batch.values, strict=True)):
        facts = plan.facts.columns[item.column.name]
        if not _is_exact(facts, values):
            return None
        # The database's type and not the model's, for it decides which values are equal.
        given = bindparam(f"column_{index}", list(values), type_=_AsItIs())
        arrays.append(cast(given, _AsItIs(f"{facts.type_text}[]")))
        columns.append(column(item.column.name, item.column.type))
    rows = func.unnest(*arrays).table_valued(*columns).render_derived(name=named("sent"))
    return select(*rows.c).subquery(named("few"))


def _is_exact(facts: ColumnFacts, values: Sequence[Any]) -> bool:
    """Whether an array of the values, cast to the column's type, holds what INSERT would write."""
    if facts.is_unknown_domain or not (facts.type_name in _TYPES or facts.is_enum):
        return False
    if "%" in facts.type_text or ":" in facts.type_text:
        return False
    if len({type(value) for value in values} - {NoneType}) > 1:
        return False
    length = _LENGTH.fullmatch(facts.type_text)
    # A cast cuts a text that INSERT refuses.
    return length is None or all(value is None or len(value) <= int(length[1]) for value in values)
