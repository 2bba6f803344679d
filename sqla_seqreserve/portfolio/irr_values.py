"""Storing rates of return: new (fund, date) pairs are inserted together, existing ones updated.

::

    day = date(2024, 5, 31)
    store_fund_irr_values(session, [{"fund_id": 7, "date": day, "irr_result": 5.98507}])
    store_portfolio_irr_values(session, [{"portfolio_id": 1, "date": day, "irr_result": 6.1}])
    store_irr_value(session, 7, day, 5.98507)

A rate is a percentage, and is rounded to two places. A row may name the valuation behind it
(``fund_valuation_id``, ``portfolio_valuation_id``); an update without one keeps the stored one. All
rows are checked first, and nothing is written unless all are good. The caller commits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import ARRAY, BigInteger, Date, column, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_upsert
from sqla_seqreserve.errors import InvalidRowsError, RowProblem

from ._histories import lock_portfolios, portfolios_of_funds
from .activity_rows import parse_id
from .errors import IrrError
from .irr import round_irr
from .models import Base, PortfolioFundIrrValue, PortfolioIrrValue

__all__ = [
    "store_fund_irr_values",
    "store_irr_value",
    "store_portfolio_irr_values",
    "stored_rows",
    "upsert",
]

_Model = TypeVar("_Model", bound=Base)


def store_fund_irr_values(
    session: Session, rows: Iterable[Mapping[str, Any]]
) -> list[PortfolioFundIrrValue]:
    """Store rates of funds, and return their objects in the order of the rows.

    :raises InvalidRowsError: naming every row that cannot be stored
    """
    checked = _checked(session, rows, "fund_id", "fund_valuation_id", portfolios_of_funds)
    return _stored(session, PortfolioFundIrrValue, ("fund_id", "date"), checked)


def store_portfolio_irr_values(
    session: Session, rows: Iterable[Mapping[str, Any]]
) -> list[PortfolioIrrValue]:
    """Store rates of portfolios, and return their objects in the order of the rows.

    :raises InvalidRowsError: naming every row that cannot be stored
    """
    checked = _checked(session, rows, "portfolio_id", "portfolio_valuation_id", _themselves)
    return _stored(session, PortfolioIrrValue, ("portfolio_id", "date"), checked)


def store_irr_value(
    session: Session,
    fund_id: int,
    date: dt.date,
    irr_result: float | Decimal,
    fund_valuation_id: int | None = None,
) -> PortfolioFundIrrValue:
    """Store the rate of one fund on one date, and return its object.

    :raises InvalidRowsError: it cannot be stored
    """
    row: dict[str, Any] = {"fund_id": fund_id, "date": date, "irr_result": irr_result}
    if fund_valuation_id is not None:
        row["fund_valuation_id"] = fund_valuation_id
    [stored] = store_fund_irr_values(session, [row])
    return stored


def upsert(
    session: Session,
    model: type[_Model],
    key: tuple[str, str],
    rows: Iterable[Mapping[str, Any]],
) -> list[_Model]:
    """Insert the rows whose key, an owner and a date, is new; update the others; and flush.

    The rows are correct, each key once. Beside the flush, it takes one query for all of them.
    """
    rows = list(rows)
    owner, date = key
    if not rows:
        return []
    session.flush()
    existing = stored_rows(session, model, key, [(row[owner], row[date]) for row in rows])
    result: list[_Model] = []
    for row in rows:
        stored = existing.get((row[owner], row[date]))
        if stored is None:
            stored = model(**row)
            session.add(stored)
        else:
            for attribute, value in row.items():
                if getattr(stored, attribute) != value:
                    setattr(stored, attribute, value)
        result.append(stored)
    session.flush()
    return result


def stored_rows(
    session: Session,
    model: type[_Model],
    key: tuple[str, str],
    values: Sequence[tuple[int, dt.date]],
) -> dict[tuple[int, dt.date], _Model]:
    """Return the rows that the database holds for these keys, each an owner and a date."""
    owner, date = (getattr(model, name) for name in key)
    unnested = func.unnest(
        literal([value[0] for value in values], ARRAY(BigInteger)),
        literal([value[1] for value in values], ARRAY(Date)),
    )
    columns = column("owner", BigInteger), column("day", Date)
    wanted = unnested.table_valued(*columns).render_derived(name="wanted")
    rows = session.scalars(
        select(model).join(wanted, (owner == wanted.c.owner) & (date == wanted.c.day)),
        # Another transaction may have changed what this session has seen before.
        execution_options={"populate_existing": True},
    )
    return {(getattr(row, key[0]), getattr(row, key[1])): row for row in rows}


def _stored(
    session: Session,
    model: type[_Model],
    key: tuple[str, str],
    rows: Iterable[Mapping[str, Any]],
) -> list[_Model]:
    """Insert the rows whose key, an owner and a date, is new; update those of the others that
    differ; and return their objects in the order of the rows. What is pending is flushed first.

    The rows are correct, each key once. Rows that give different attributes are stored separately,
    since an update without an attribute keeps the stored value.
    """
    rows = list(rows)
    session.flush()
    stored: dict[int, _Model] = {}
    kinds: dict[frozenset[str], list[int]] = {}
    for number, row in enumerate(rows):
        kinds.setdefault(frozenset(row), []).append(number)
    excluded = insert(model).excluded
    for attributes, numbers in kinds.items():
        values = attributes.difference(key)
        differs = or_(
            *(getattr(model, name).is_distinct_from(excluded[name]) for name in sorted(values))
        )
        done = bulk_upsert(
            session,
            model,
            [rows[number] for number in numbers],
            conflict=key,
            where=differs,
            returning="objects",
        )
        stored.update(zip(numbers, done.objects, strict=True))
    return [stored[number] for number in range(len(rows))]


def _checked(
    session: Session,
    rows: Iterable[Mapping[str, Any]],
    owner: str,
    valuation: str,
    portfolio_of: Callable[[Session, Iterable[int]], Mapping[int, int]],
) -> list[dict[str, Any]]:
    problems: list[RowProblem] = []
    checked: list[dict[str, Any]] = []
    seen: dict[tuple[int, dt.date], int] = {}
    owners: list[tuple[int, int]] = []
    known: Mapping[int, int] = {}
    for index, row in enumerate(rows):
        good: dict[str, Any] = {}
        for attribute, parse in (
            (owner, parse_id),
            ("date", _parse_date),
            ("irr_result", _parse_rate),
            (valuation, parse_id),
        ):
            if attribute == valuation and row.get(valuation) is None:
                continue
            try:
                good[attribute] = parse(row.get(attribute))
            except (ValueError, IrrError) as error:
                problems.append(RowProblem(index, attribute, str(error)))
        problems.extend(
            RowProblem(index, unknown, "is not an attribute of a rate")
            for unknown in row.keys() - {owner, "date", "irr_result", valuation}
        )
        if owner in good:
            owners.append((index, good[owner]))
        if owner in good and "date" in good:
            first = seen.setdefault((good[owner], good["date"]), index)
            if first != index:
                problem = f"has the same {owner} and date as row {first}"
                problems.append(RowProblem(index, "date", problem))
        checked.append(good)
    if owners:
        known = portfolio_of(session, {owner_id for _, owner_id in owners})
        problems.extend(
            RowProblem(index, owner, f"nothing has the id {owner_id}")
            for index, owner_id in owners
            if owner_id not in known
        )
    if problems:
        problems.sort(key=lambda problem: problem.index)
        raise InvalidRowsError(
            f"No rate was stored: {len({problem.index for problem in problems})} of "
            f"{len(checked)} rows are wrong",
            problems,
        )
    lock_portfolios(session, set(known.values()))
    return checked


def _themselves(session: Session, portfolio_ids: Iterable[int]) -> dict[int, int]:
    return {key: key for key in lock_portfolios(session, portfolio_ids)}


def _parse_date(value: object) -> dt.date:
    if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
        raise ValueError(f"expected a date, found {value!r}")
    return value


def _parse_rate(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"expected a number, found {value!r}")
    return round_irr(float(value))
