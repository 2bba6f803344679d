"""The query of a reservation: it compares facts, and takes ids if they are still true."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import TextClause, text

from . import catalogue


class Guard(enum.Enum):
    """What is compared before an id is taken."""

    KEY = (
        "FROM pg_attribute a WHERE a.attrelid = to_regclass(:table_{slot}) "
        "AND a.attname = CAST(:column_{slot} AS name) "
        f"AND {catalogue.COLUMN_FINGERPRINT} = :print_{{slot}} "
        "AND has_table_privilege(a.attrelid, 'INSERT') "
        # A trigger that may change the key: FOR EACH ROW, BEFORE, on INSERT.
        "AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = a.attrelid "
        "AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 7 = 7) "
        f"AND NOT {catalogue.INSERT_RULES.format(table='a.attrelid')}"
    )
    TABLE = (
        "FROM pg_class c WHERE c.oid = to_regclass(:table_{slot}) "
        f"AND {catalogue.FINGERPRINT} = :print_{{slot}} "
        "AND has_table_privilege(c.oid, 'INSERT')"
    )
    TABLE_AND_ACTIONS = f"{TABLE} AND {catalogue.ACTION_FINGERPRINT} = :actions_{{slot}}"
    INDEX = (
        "FROM pg_index c WHERE c.indexrelid = CAST(:index_{slot} AS oid) "
        "AND c.indrelid = to_regclass(:table_{slot}) "
        "AND c.indisunique AND c.indisvalid AND c.indimmediate "
        "AND pg_get_indexdef(c.indexrelid) = :definition_{slot}"
    )


_PRESENT: Final = " AND current_setting('transaction_isolation') LIKE 'read%'"
"""The transaction sees what is committed now, whatever it has read before."""


class Branch(NamedTuple):
    """How the ids of one request are taken, or one table is compared. ``is_kept``: for ids that
    were kept, so the sequence must not have been restarted since.
    """

    guard: Guard
    declared: bool = False
    expression: str = ""
    type_name: str = ""
    is_kept: bool = False


# A function, because it sees what is committed now, whatever the transaction's snapshot.
_SAME_FILE: Final = (
    " AND pg_relation_filenode(CAST(:kept_{slot} AS oid)) = CAST(:file_{slot} AS oid)"
)

_SAME_DEFAULT: Final = (
    " AND (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute x "
    "ON x.attrelid = d.adrelid AND x.attnum = d.adnum WHERE d.adrelid = {oid} "
    "AND x.attname = CAST(:column_{slot} AS name)) = :default_{slot}"
)


def column_types(branches: Sequence[Branch]) -> tuple[str, ...]:
    """Return the types of the defaults that are evaluated; each gets a result column."""
    return tuple(dict.fromkeys(branch.type_name for branch in branches if branch.type_name))


@functools.lru_cache(maxsize=128)
def reservation(requests: int, branches: tuple[Branch, ...], before_snapshot: bool) -> TextClause:
    """Build the query. If there are several branches, none takes an id unless every comparison
    succeeds. The comparisons are made once, in a row of a CTE; a NULL in any of its columns leaves
    every branch without ids.
    """
    # Slot numbers are ours, and all else is bound: a driver may insert the values into the text by
    # itself.
    types = column_types(branches)
    several = len(branches) > 1
    compared, selects = [], []
    for slot, branch in enumerate(branches):
        held = _held(slot, branch, is_request=slot < requests, before_snapshot=before_snapshot)
        number = str(slot)
        if several:
            if slot < requests:
                # This branch has no row to report the result of its comparison.
                kind = "bigint" if branch.expression else "regclass"
                held = (
                    f"CASE WHEN CAST(:count_{slot} AS bigint) > 0 THEN ({held}) "
                    f"ELSE CAST(0 AS {kind}) END"
                )
            compared.append(f"({held}) AS h{slot}")
            held = f"SELECT h.h{slot} FROM held h WHERE h IS NOT NULL"  # noqa: S608  # slots
            # If another comparison fails, this branch must not report that its own did.
            number = (
                f"(SELECT CASE WHEN h.h{slot} IS NULL OR h IS NOT NULL "  # noqa: S608  # slots
                f"THEN {slot} ELSE -1 END FROM held h)"
            )
        values = {type_name: f"CAST(NULL AS pg_catalog.{type_name})" for type_name in types}
        if branch.expression:
            # Cast to the column's type, but without its length, since a cast silently cuts longer
            # values.
            values[branch.type_name] = (
                f"CASE WHEN s.held IS NOT NULL THEN CAST(({escaped(branch.expression)}) "
                f"AS pg_catalog.{branch.type_name}) END"
            )
            taken, source = "s.held AS id", f"FROM (SELECT ({held}) AS held) s, "
        elif slot < requests:
            taken, source = f"nextval(({held})) AS id", "FROM "
        else:
            taken, source = f"({held}) AS id", ""
        if slot < requests:
            source += f"generate_series(1, CAST(:count_{slot} AS bigint))"
        selects.append(
            " ".join(
                [", ".join([f"SELECT {number} AS slot", taken, *values.values()]), source]
            ).rstrip()
        )
    union = " UNION ALL ".join(selects)
    return text(f"WITH held AS (SELECT {', '.join(compared)}) {union}" if several else union)


def _held(slot: int, branch: Branch, *, is_request: bool, before_snapshot: bool) -> str:
    """Build a query for the source of a branch's ids; it yields NULL or no row if a fact of the
    source has changed.
    """
    holds = branch.guard.value.replace("{slot}", str(slot)) + ("" if before_snapshot else _PRESENT)
    if branch.is_kept:
        holds += _SAME_FILE.format(slot=slot)
    if branch.expression:
        oid = "a.attrelid" if branch.guard is Guard.KEY else "c.oid"
        return f"SELECT CAST({oid} AS bigint) {holds}" + _SAME_DEFAULT.format(oid=oid, slot=slot)
    if not is_request:
        return f"SELECT CAST(1 AS bigint) {holds}"
    itself = f"SELECT q.oid::regclass FROM pg_class q WHERE q.oid = CAST(:sequence_{slot} AS oid)"  # noqa: S608  # a slot
    found = f"to_regclass(:sequence_{slot})" if branch.declared else f"({itself})"
    return (
        f"SELECT s.s FROM (SELECT {found} AS s {holds}) s "  # noqa: S608  # the expressions above
        "WHERE has_sequence_privilege(s.s, 'USAGE, UPDATE')"
    )


@functools.lru_cache(maxsize=128)
def comparison(branches: tuple[Branch, ...], before_snapshot: bool) -> TextClause:
    """Build a query that divides by zero if one of these comparisons fails."""
    compared = reservation(0, branches, before_snapshot).text
    return text(f"SELECT 1 / (count(g.id) / count(*)) FROM ({compared}) g")  # noqa: S608  # as above


def escaped(expression: str) -> str:
    """Escape an expression for ``text()``, which takes ``:name`` for a parameter."""
    return re.sub(r"(?<!\\):", r"\\:", expression)
