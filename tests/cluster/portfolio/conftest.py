"""The portfolio's own tests, on a schema that its migrations distributed over a Citus cluster.

The files beside this one import the tests of ``tests/integration/portfolio``. The fixtures below
are those of that folder, on another database.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from alembic import command
from fixtures.cluster import VARIABLE
from integration.portfolio.conftest import holding, in_threads, session
from sqlalchemy import URL, create_engine, text

from sqla_seqreserve.portfolio.models import Base
from sqla_seqreserve.portfolio.schema import migration_config

__all__ = ["holding", "in_threads", "portfolio_url", "session"]

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_*.py"]


@pytest.fixture(scope="module")
def distributed_portfolio(citus_url: URL) -> Iterator[URL]:
    """The coordinator's URL, with a schema that contains the portfolio's tables."""
    schema = f"seqreserve_{uuid.uuid4().hex[:12]}"
    # A recalculation reads many shards and then writes to reference tables, in one transaction.
    options = f"-csearch_path={schema} -ccitus.multi_shard_modify_mode=sequential"
    url = citus_url.update_query_dict({"options": options})
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    config = migration_config()
    try:
        with engine.begin() as connection:
            config.attributes |= {"connection": connection, "citus": "distribute"}
            command.upgrade(config, "head")
        yield url
    finally:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL client_min_messages = warning"))
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@pytest.fixture
def portfolio_url(distributed_portfolio: URL) -> Iterator[str]:
    """The URL of the distributed portfolio, which is emptied after the test."""
    yield distributed_portfolio.render_as_string(hide_password=False)
    engine = create_engine(distributed_portfolio)
    with engine.begin() as connection:
        names = ", ".join(table.name for table in Base.metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {names} CASCADE"))
        # One of the tests adds this constraint; elsewhere it goes with the test's database.
        connection.execute(
            text("ALTER TABLE portfolio_fund_irr_values DROP CONSTRAINT IF EXISTS none")
        )
    engine.dispose()
