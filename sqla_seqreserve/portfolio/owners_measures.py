"""The measures of the portal's owners, with the values required and the values reached here.

They define the load: bulk saves of 50 activities, more than ten at a time, with the rates of return
recalculated; on the database that the demo has filled.
"""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from ..health import check_sequences
from ..registration import register
from .activities import save_activities
from .activity_types import ActivityType
from .base import Base
from .models import ClientProduct, PortfolioFund
from .recalculation import recalculate

__all__ = ["OwnersMeasure", "measure"]

ACTIVITIES = 50
WRITERS = 12
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class OwnersMeasure:
    """One measure: its name, the value required, the value reached, and whether that is enough."""

    name: str
    required: str
    reached: str
    met: bool


@dataclass(slots=True)
class _Saves:
    seconds: list[float]
    conflicts: int
    errors: int
    elapsed: float


def measure(engine: Engine, *, progress: Callable[[int], object]) -> list[OwnersMeasure]:
    """Run the load on the database and measure; ``progress`` is called after each bulk save.

    The database must contain a portfolio with funds. The saved rows stay.
    """
    factory = sessionmaker(engine)
    register(factory, reserve="always")
    targets = _targets(factory)
    with factory() as session:
        started = time.perf_counter()
        _save(session, targets[0])
        session.commit()
        alone = time.perf_counter() - started
    saves = _simultaneous_saves(factory, targets, progress)
    with factory() as session:
        started = time.perf_counter()
        recalculate(session, {targets[0].portfolio: dt.date(2000, 1, 1)})
        session.commit()
        recalculated = time.perf_counter() - started
        started = time.perf_counter()
        health = check_sequences(session, Base)
        checked = time.perf_counter() - started
    done = len(saves.seconds)
    tried = done + saves.errors
    slowest = statistics.quantiles(saves.seconds, n=20)[-1] if done > 1 else float("inf")
    a_minute = done * ACTIVITIES / saves.elapsed * 60
    gaps = max((entry.gap or 0 for entry in health.sequences), default=0)
    return [
        OwnersMeasure(
            f"{ACTIVITIES} activities saved, rates included", "< 2 s", f"{alone:.2f} s", alone < 2
        ),
        OwnersMeasure(
            "sequence conflicts", "0", f"{saves.conflicts} in {tried} saves", not saves.conflicts
        ),
        OwnersMeasure("simultaneous bulk saves", "10", f"{WRITERS}", not saves.errors),
        OwnersMeasure(
            "a portfolio recalculated", "< 5 s", f"{recalculated:.2f} s", recalculated < 5
        ),
        OwnersMeasure(
            "errors", "< 0.1 %", f"{saves.errors / tried:.1%}", saves.errors / tried < 0.001
        ),
        OwnersMeasure("95th percentile of a save", "< 3 s", f"{slowest:.2f} s", slowest < 3),
        OwnersMeasure("activities a minute", "> 1,000", f"{a_minute:,.0f}", a_minute > 1000),
        OwnersMeasure(
            "health checked every 5 minutes",
            "a check < 5 min",
            f"{checked:.2f} s a check (watch --every 5m)",
            checked < 300,
        ),
        OwnersMeasure(
            "alert on a gap above 10",
            "gap <= 10",
            f"largest gap {gaps} (watch --alert-gap 10)",
            gaps <= 10,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Target:
    portfolio: int
    product: int
    fund: int


def _targets(factory: sessionmaker[Session]) -> list[_Target]:
    with factory() as session:
        rows = session.execute(
            select(PortfolioFund.portfolio_id, ClientProduct.id, PortfolioFund.id)
            .join(ClientProduct, ClientProduct.portfolio_id == PortfolioFund.portfolio_id)
            .distinct(PortfolioFund.portfolio_id)
            .order_by(PortfolioFund.portfolio_id, PortfolioFund.id)
            .limit(WRITERS)
        )
        return [_Target(*row) for row in rows]


def _save(session: Session, target: _Target) -> None:
    save_activities(
        session,
        [
            {
                "product_id": target.product,
                "portfolio_fund_id": target.fund,
                "activity_type": ActivityType.INVESTMENT.value,
                "activity_timestamp": dt.date(2010, 1, 1 + number % 28),
                "amount": Decimal("10.00"),
            }
            for number in range(ACTIVITIES)
        ],
    )


def _simultaneous_saves(
    factory: sessionmaker[Session], targets: list[_Target], progress: Callable[[int], object]
) -> _Saves:
    saves = _Saves([], 0, 0, 0.0)

    def work(writer: int) -> None:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            try:
                with factory() as session:
                    _save(session, targets[writer % len(targets)])
                    session.commit()
                saves.seconds.append(time.perf_counter() - started)
            except SQLAlchemyError as error:
                saves.errors += 1
                saves.conflicts += isinstance(error, IntegrityError)
            progress(1)

    started = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(work, range(WRITERS)))
    saves.elapsed = time.perf_counter() - started
    return saves
