"""The main job, end to end: a decade of monthly plans saved through ``session.add_all`` and
``commit``.

The rows come from real share prices (:mod:`.share_prices`, :mod:`.monthly_plans`). All of them are
saved through a registered session. The first clients' rows are also saved by stock SQLAlchemy into
a database of its own, batch by batch in turn, so that both meet the same machine; and their
activities once more by both into a table with an identity key, which is what stock SQLAlchemy is
fastest with.

Nothing is printed here; ``sqla-seqreserve demo`` does that.
"""

from __future__ import annotations

import datetime as dt
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Engine,
    ForeignKey,
    Identity,
    Numeric,
    Text,
    event,
    func,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from ..registration import register
from .base import Base, utc_now
from .models import ClientProduct, HoldingActivityLog, PortfolioFund
from .monthly_plans import ClientPlan, client_plans, planned_rows
from .share_prices import SharePrice

__all__ = ["Comparison", "Demo", "Measure", "rows_to_save", "save_everything"]

BATCH = 20
"""Clients whose rows go into one commit."""


@dataclass(slots=True)
class Measure:
    """What saving took: rows, seconds in ``add_all`` and ``commit``, and statements sent."""

    rows: int = 0
    seconds: float = 0.0
    statements: int = 0

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same rows of one table saved by us and by stock SQLAlchemy."""

    table: str
    ours: Measure
    stock: Measure

    @property
    def ratio(self) -> float:
        """How many times faster we were."""
        return self.stock.seconds / self.ours.seconds if self.ours.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Demo:
    """What the main job did: everything saved, and the comparisons on the first clients' rows."""

    saved: Measure
    planned: dict[type[Base], int]
    found: dict[type[Base], int]
    comparisons: tuple[Comparison, ...]

    @property
    def complete(self) -> bool:
        """Whether every planned row is in the database."""
        return self.found == self.planned


class _IdentityBase(DeclarativeBase):
    pass


class _IdentityActivity(_IdentityBase):
    """The activities in a table that PostgreSQL numbers by an identity column."""

    __tablename__ = "demo_identity_activity"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    product_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(ClientProduct.__table__.c.id), index=True
    )
    portfolio_fund_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(PortfolioFund.__table__.c.id), index=True
    )
    activity_type: Mapped[str] = mapped_column(Text)
    activity_timestamp: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), index=True)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(14, 2))
    created_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), default=utc_now)
    updated_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), default=utc_now)


def save_everything(
    engine: Engine,
    stock_engine: Engine,
    prices: Sequence[SharePrice],
    *,
    clients: int,
    compared: int,
    progress: Callable[[int], object],
) -> Demo:
    """Save the plans of ``clients`` clients to ``engine``, and those of the first ``compared`` to
    ``stock_engine`` too.

    Both databases are migrated and empty. ``progress`` is called with the number of rows saved, by
    either, since the last call.
    """
    ours_factory, stock_factory = sessionmaker(engine), sessionmaker(stock_engine)
    register(ours_factory, reserve="always")
    for each in (engine, stock_engine):
        _IdentityBase.metadata.create_all(each)
    saved = Measure()
    logged = Comparison(HoldingActivityLog.__tablename__, Measure(), Measure())
    identity = Comparison("the same with an identity key", Measure(), Measure())
    plans, twins = client_plans(prices, clients=clients), client_plans(prices, clients=clients)
    done = 0
    while batch := list(islice(plans, BATCH)):
        twin = list(islice(twins, len(batch)))
        compare = done < compared
        done += len(batch)
        ours, activities = _save(ours_factory, batch, logged.ours if compare else None)
        saved.rows += ours.rows
        saved.seconds += ours.seconds
        saved.statements += ours.statements
        progress(ours.rows)
        if compare:
            stock, twin_activities = _save(stock_factory, twin, logged.stock)
            progress(stock.rows)
            for factory, rows, measure in (
                (ours_factory, activities, identity.ours),
                (stock_factory, twin_activities, identity.stock),
            ):
                _save_all(factory, [_IdentityActivity(**row) for row in rows], measure)
                progress(len(rows))
    with Session(engine) as session:
        planned = planned_rows(prices, clients=clients)
        found = {
            model: session.scalars(select(func.count()).select_from(model)).one()
            for model in planned
        }
    for each in (engine, stock_engine):
        _IdentityBase.metadata.drop_all(each)
    return Demo(saved, planned, found, (logged, identity))


def rows_to_save(prices: Sequence[SharePrice], *, clients: int, compared: int) -> int:
    """How many rows :func:`save_everything` saves in all, by us and by stock, for a progress
    bar.
    """
    rows = planned_rows(prices, clients=clients)
    total = sum(rows.values())
    twice = -(-min(compared, clients) // BATCH) * BATCH
    again = planned_rows(prices, clients=min(twice, clients)) if compared else {}
    return total + sum(again.values()) + 2 * again.get(HoldingActivityLog, 0)


def _save(
    factory: sessionmaker[Session], plans: Sequence[ClientPlan], activities_measure: Measure | None
) -> tuple[Measure, list[dict[str, Any]]]:
    """Save some clients; return what it took in all, and the activities' values if they are
    compared.
    """
    parents = Measure()
    _save_all(
        factory,
        [item for plan in plans for item in (plan.portfolio, plan.product, *plan.funds)],
        parents,
    )
    logged, valued = Measure(), Measure()
    activities = [activity for plan in plans for activity in plan.activities()]
    values = [] if activities_measure is None else list(map(_values, activities))
    _save_all(factory, activities, logged)
    del activities
    _save_all(factory, [item for plan in plans for item in plan.valuations()], valued)
    if activities_measure is not None:
        _add(activities_measure, logged)
    total = Measure()
    for part in (parents, logged, valued):
        _add(total, part)
    return total, values


def _values(activity: HoldingActivityLog) -> dict[str, Any]:
    return {key: value for key, value in vars(activity).items() if not key.startswith("_")}


def _save_all(factory: sessionmaker[Session], objects: list[Any], measure: Measure) -> None:
    """``session.add_all(objects); session.commit()``, measured."""
    gc.collect()  # what was left before is not this one's to clear away
    with factory() as session, _counted(session.get_bind(), measure):
        started = time.perf_counter()
        session.add_all(objects)
        session.commit()
        measure.seconds += time.perf_counter() - started
        measure.rows += len(objects)


def _add(total: Measure, part: Measure) -> None:
    total.rows += part.rows
    total.seconds += part.seconds
    total.statements += part.statements


@contextmanager
def _counted(bind: Any, measure: Measure) -> Iterator[None]:
    """Count the statements sent meanwhile, each row of an ``executemany`` for one."""

    def sent(
        _conn: object, _cursor: object, _sql: str, parameters: Any, _ctx: object, many: bool
    ) -> None:
        measure.statements += len(parameters) if many and isinstance(parameters, list) else 1

    event.listen(bind, "before_cursor_execute", sent)
    try:
        yield
    finally:
        event.remove(bind, "before_cursor_execute", sent)
