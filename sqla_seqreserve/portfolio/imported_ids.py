"""Shows what an import with explicit ids does to a sequence, and repairs it.

An export from another system includes its ids. PostgreSQL stores them, and the sequence does
not move: it hands out the same ids again, and the next INSERT fails. This module causes that on
purpose, detects it by :func:`~sqla_seqreserve.check_sequences`, and repairs it by
:func:`~sqla_seqreserve.repair_sequences`.

Nothing is printed here; ``sqla-seqreserve demo`` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..health import SequenceHealth, check_sequences, repair_sequences
from ..health.report import RepairResult
from ..registration import register
from .models import Portfolio

__all__ = ["ImportedIds", "import_and_repair"]


@dataclass(frozen=True, slots=True)
class ImportedIds:
    """The steps and their results, in order.

    :ivar rows: rows that were imported with their ids
    :ivar behind: the check's result for the sequence after that
    :ivar refusal: the database's error for the next save, None if there was none
    :ivar repair: the result of the repair
    :ivar saved: the id of the same save after the repair
    """

    rows: int
    behind: SequenceHealth
    refusal: str | None
    repair: RepairResult
    saved: int


def import_and_repair(engine: Engine, *, rows: int = 500) -> ImportedIds:
    """Import portfolios with ids of their own, check, save, repair and save again.

    The sequence of the portfolios is healthy before, and after.
    """
    with Session(engine) as session:
        register(session)
        last = session.scalar(select(func.max(Portfolio.id))) or 0
        ids = range(last + 1, last + 1 + rows)
        # As an import does, which knows nothing of sequences.
        values = [{"id": id_, "portfolio_name": f"Imported {id_}"} for id_ in ids]
        session.execute(insert(Portfolio), values)
        session.commit()
        [behind] = check_sequences(session, [Portfolio]).sequences
        refusal = None
        session.add(Portfolio(portfolio_name="New"))
        try:
            session.commit()
        except IntegrityError as error:
            session.rollback()
            refusal = str(error.orig).partition("\n")[0]
        [repair] = repair_sequences(session, [Portfolio]).results
        session.commit()
        portfolio = Portfolio(portfolio_name="New")
        session.add(portfolio)
        session.commit()
        return ImportedIds(rows, behind, refusal, repair, portfolio.id)
