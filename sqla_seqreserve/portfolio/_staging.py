"""A temporary table of activities that are about to be loaded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Date,
    DateTime,
    MetaData,
    Numeric,
    Table,
    Text,
    and_,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from ._csv_lines import Line
from .activity_rows import ActivityRow
from .models import HoldingActivityLog, PortfolioFund

_KEY = ActivityRow._fields
_TYPES: tuple[TypeEngine[Any], ...] = (
    BigInteger(),
    BigInteger(),
    Text(),
    DateTime(timezone=True),
    Numeric(14, 2),
)

_table = Table(
    "sqla_seqreserve_load",
    MetaData(),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, kind) for name, kind in zip(_KEY, _TYPES, strict=True)),
    prefixes=["TEMPORARY"],
)


class Staging:
    """The table, while a load lasts. It lives on the session's connection."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> Self:
        # A load that was interrupted on this connection may have left its table.
        self._session.execute(text("DROP TABLE IF EXISTS pg_temp.sqla_seqreserve_load"))
        _table.create(self._session.connection(), checkfirst=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A failed transaction accepts no more statements, and its rollback drops the table. The
        # refusal would replace the error that says what failed.
        with nullcontext() if error is None else suppress(SQLAlchemyError):
            self._session.execute(text("DROP TABLE IF EXISTS pg_temp.sqla_seqreserve_load"))

    def add(self, lines: Sequence[Line]) -> None:
        """Insert lines into the table: one statement, whatever their number."""
        if not lines:
            return
        values: list[Sequence[Any]] = [
            [line.number for line in lines],
            *zip(*(line.activity for line in lines), strict=True),
        ]
        kinds = (BigInteger(), *_TYPES)
        arrays: list[ColumnElement[Any]] = [
            literal(list(each), ARRAY(kind)) for each, kind in zip(values, kinds, strict=True)
        ]
        names = ("line", *_KEY)
        rows = func.unnest(*arrays).table_valued(*map(column, names)).render_derived(name="rows")
        self._session.execute(insert(_table).from_select(names, select(*rows.c)))

    def earliest_by_portfolio(self) -> dict[int, dt.date]:
        """Return the day of each portfolio's first activity."""
        day = cast(func.timezone("UTC", func.min(_table.c.activity_timestamp)), Date)
        query = (
            select(PortfolioFund.portfolio_id, day.label("first_day"))
            .join(_table, _table.c.portfolio_fund_id == PortfolioFund.id)
            .group_by(PortfolioFund.portfolio_id)
        )
        return {row.portfolio_id: row.first_day for row in self._session.execute(query)}

    def drop_present(self) -> int:
        """Drop the lines that the log holds already, counting equal ones, and return how many."""
        self._session.execute(text("ANALYZE pg_temp.sqla_seqreserve_load"))
        logged = HoldingActivityLog.__table__.c
        keys = select(*(_table.c[name] for name in _KEY)).distinct().subquery("keys")
        same = and_(
            *(logged[name] == keys.c[name] for name in _KEY[:-1]),
            logged.amount.is_not_distinct_from(keys.c.amount),
        )
        present = (
            select(*keys.c, func.count().label("times"))
            .join(HoldingActivityLog, same)
            .group_by(*keys.c)
            .subquery("present")
        )
        equal_ones = [_table.c[name] for name in _KEY]
        time = func.row_number().over(partition_by=equal_ones, order_by=_table.c.line)
        numbered = select(_table, time.label("time")).subquery("numbered")
        lines = select(numbered.c.line).join(
            present,
            and_(
                *(numbered.c[name] == present.c[name] for name in _KEY[:-1]),
                numbered.c.amount.is_not_distinct_from(present.c.amount),
                numbered.c.time <= present.c.times,
            ),
        )
        dropped = delete(_table).where(_table.c.line.in_(lines)).returning(_table.c.line)
        gone = dropped.cte("gone")
        return self._session.scalar(select(func.count()).select_from(gone)) or 0

    def count(self) -> int:
        """Return how many lines are left."""
        return self._session.scalar(select(func.count()).select_from(_table)) or 0

    def chunks(self, rows: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the remaining lines, in their order, at most ``rows`` at a time."""
        last = 0
        while True:
            chunk = self._session.execute(
                select(_table).where(_table.c.line > last).order_by(_table.c.line).limit(rows)
            ).all()
            if not chunk:
                return
            last = chunk[-1].line
            yield [dict(zip(_KEY, row[1:], strict=True)) for row in chunk]
