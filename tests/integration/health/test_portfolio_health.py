"""Every model of the portfolio checks and repairs its own sequence."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.production_like import IMPORTED
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sqla_seqreserve.portfolio.models import Base

MODELS = sorted((mapper.class_ for mapper in Base.registry.mappers), key=lambda c: str(c.__name__))


def test_there_is_a_model_for_each_table() -> None:
    """These tests cover every table."""
    assert {model.__tablename__ for model in MODELS} == set(Base.metadata.tables)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_checks_and_repairs_its_sequence(model: Any, production_engine: Engine) -> None:
    """After the import each model detects its own gap, says what a repair would do, and
    repairs it.
    """
    table = model.__tablename__
    ids = IMPORTED.get(table)
    gap = ids.last if ids else 0
    with Session(production_engine) as session:
        health = model.sequence_health(session)
        assert (health.table, health.sequence, health.gap) == (table, f"{table}_id_seq", gap)
        told = model.repair_sequence(session, dry_run=True)
        assert told.action == ("WOULD_REPAIR" if gap else "HEALTHY")
        assert model.sequence_health(session).gap == gap
        done = model.repair_sequence(session)
        assert (done.action, done.gap_fixed) == ("REPAIRED" if gap else "HEALTHY", gap)
        health = model.sequence_health(session)
        assert (health.is_healthy, health.next_value) == (True, gap + 1)


def test_a_migrated_portfolio_is_healthy(portfolio_engine: Engine) -> None:
    """After the migrations no model needs a repair or has a warning."""
    with Session(portfolio_engine) as session:
        assert {model.sequence_health(session).status for model in MODELS} == {"OK"}
