"""The production-like database has identity keys whose sequences never saw the import."""

from __future__ import annotations

import pytest
from fixtures.production_like import IMPORTED
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from sqla_seqreserve.portfolio.models import Base

_INSERT = text(
    "INSERT INTO holding_activity_log"
    " (product_id, portfolio_fund_id, activity_type, activity_timestamp)"
    " SELECT 5, 11, 'Withdrawal', now() FROM generate_series(1, :rows) RETURNING id"
)


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_keys_are_identities_under_the_same_sequence_names(
    table: str, production_engine: Engine
) -> None:
    """Each id is an identity by default; its sequence has the known name and gave no value."""
    with production_engine.connect() as connection:
        [key] = [c for c in inspect(connection).get_columns(table) if c["name"] == "id"]
        assert key["identity"]["always"] is False
        sequence = connection.scalar(select(func.pg_get_serial_sequence(table, "id")))
        assert sequence == f"public.{table}_id_seq"
        assert connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one() == (
            1,
            False,
        )
        ids = connection.execute(text(f"SELECT min(id), max(id), count(*) FROM {table}")).one()
        first, last = IMPORTED.get(table, (None, None))
        assert tuple(ids) == (first, last, last - first + 1 if first is not None else 0)


def test_the_644th_insert_collides(production_engine: Engine) -> None:
    """643 inserts go well before the sequence meets the first imported id."""
    with production_engine.begin() as connection:
        ids = connection.scalars(_INSERT, {"rows": 643}).all()
    assert sorted(ids) == list(range(1, 644))
    with production_engine.connect() as connection, pytest.raises(IntegrityError) as refused:
        connection.execute(_INSERT, {"rows": 1})
    assert refused.value.orig.sqlstate == "23505"
    assert "(id)=(644)" in refused.value.orig.diag.message_detail
