"""The main job, end to end: a decade of monthly plans saved through ``session.add_all`` and
``commit``.

The rows come from real share prices (:mod:`.share_prices`, :mod:`.monthly_plans`). All of them are
saved through a registered session. The first clients' rows are also saved by plain SQLAlchemy into
a database of its own, in rounds: one side after the other, so that load on the machine affects
both, and the ratio is that of the medians. The activities of a round are saved once more by both
into a table with an identity key, with which plain SQLAlchemy is fastest.

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
from statistics import median
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

__all__ = ["Comparison", "Demo", "Measure", "save_everything"]

BATCH = 10
"""Clients whose rows go into one commit, and into one round."""


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
    """The same rows of one table saved by this package and by plain SQLAlchemy, round by round."""

    table: str
    ours: list[Measure]
    plain: list[Measure]

    @property
    def rows(self) -> int:
        """How many rows each side saved."""
        return sum(measure.rows for measure in self.ours)

    @property
    def ratio(self) -> float:
        """How many times as fast this package was, by the medians of the rounds."""
        return median(m.seconds for m in self.plain) / median(m.seconds for m in self.ours)


@dataclass(frozen=True, slots=True)
class Demo:
    """The main job's result: everything saved, and the comparisons on the first clients' rows."""

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
    plain_engine: Engine,
    prices: Sequence[SharePrice],
    *,
    clients: int,
    compared: int,
    progress: Callable[[int], object],
) -> Demo:
    """Save the plans of ``clients`` clients to ``engine``, and those of the first ``compared`` to
    ``plain_engine`` too.

    Both databases are migrated and empty. ``progress`` is called with the number of planned rows
    saved since the last call; what is saved for comparison alone is not counted.
    """
    ours_factory, plain_factory = sessionmaker(engine), sessionmaker(plain_engine)
    register(ours_factory, reserve="always")
    for each in (engine, plain_engine):
        _IdentityBase.metadata.create_all(each)
    saved = Measure()
    logged = Comparison(HoldingActivityLog.__tablename__, [], [])
    identity = Comparison("the same with an identity key", [], [])
    plans, twins = client_plans(prices, clients=clients), client_plans(prices, clients=clients)
    done = 0
    while batch := list(islice(plans, BATCH)):
        twin = list(islice(twins, len(batch)))
        is_compared = done < compared
        done += len(batch)
        ours = _save(ours_factory, batch, progress)
        for part in (ours.parents, ours.logged, ours.valued):
            saved.rows += part.rows
            saved.seconds += part.seconds
            saved.statements += part.statements
        if is_compared:
            plain = _save(plain_factory, twin, valued=False)
            logged.ours.append(ours.logged)
            logged.plain.append(plain.logged)
            # The side that was second above is first here.
            for factory, values, measures in (
                (plain_factory, plain.values, identity.plain),
                (ours_factory, ours.values, identity.ours),
            ):
                activities = [_IdentityActivity(**each) for each in values]
                measures.append(_save_all(factory, activities))
    with Session(engine) as session:
        planned = planned_rows(prices, clients=clients)
        found = {
            model: session.scalars(select(func.count()).select_from(model)).one()
            for model in planned
        }
    for each in (engine, plain_engine):
        _IdentityBase.metadata.drop_all(each)
    return Demo(saved, planned, found, (logged, identity) if logged.ours else ())


@dataclass(frozen=True, slots=True)
class _Saved:
    """The measurements of saving some clients, part by part; and the activities' values."""

    parents: Measure
    logged: Measure
    valued: Measure
    values: list[dict[str, Any]]


def _save(
    factory: sessionmaker[Session],
    plans: Sequence[ClientPlan],
    progress: Callable[[int], object] | None = None,
    *,
    valued: bool = True,
) -> _Saved:
    """Save some clients, with their valuations or only with the rows that the comparison needs."""
    tell = progress or (lambda _: None)
    roots = [item for plan in plans for item in (plan.portfolio, plan.product, *plan.funds)]
    parents = _save_all(factory, roots)
    tell(parents.rows)
    activities = [activity for plan in plans for activity in plan.activities()]
    values = list(map(_values, activities))
    logged = _save_all(factory, activities)
    del activities
    tell(logged.rows)
    valuations = Measure()
    if valued:
        valuations = _save_all(factory, [item for plan in plans for item in plan.valuations()])
        tell(valuations.rows)
    return _Saved(parents, logged, valuations, values)


def _values(activity: HoldingActivityLog) -> dict[str, Any]:
    return {key: value for key, value in vars(activity).items() if not key.startswith("_")}


def _save_all(factory: sessionmaker[Session], objects: list[Any]) -> Measure:
    """``session.add_all(objects); session.commit()``, measured."""
    gc.collect()  # garbage from before must not be collected within the measured time
    measure = Measure(len(objects))
    with factory() as session, _counted(session.get_bind(), measure):
        started = time.perf_counter()
        session.add_all(objects)
        session.commit()
        measure.seconds = time.perf_counter() - started
    return measure


@contextmanager
def _counted(bind: Any, measure: Measure) -> Iterator[None]:
    """Count the statements sent in the block; each row of an ``executemany`` counts as one."""

    def sent(
        _conn: object, _cursor: object, _sql: str, parameters: Any, _ctx: object, many: bool
    ) -> None:
        measure.statements += len(parameters) if many and isinstance(parameters, list) else 1

    event.listen(bind, "before_cursor_execute", sent)
    try:
        yield
    finally:
        event.remove(bind, "before_cursor_execute", sent)
