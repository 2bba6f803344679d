"""pytest-alembic's built-in tests on the portfolio's migrations."""

from __future__ import annotations

import pytest
from pytest_alembic import create_alembic_fixture
from pytest_alembic.tests import (  # noqa: F401 - collected from here
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine

from sqla_seqreserve.portfolio.schema import migration_config


@pytest.fixture
def alembic_engine(engine: Engine) -> Engine:
    """The database that pytest-alembic migrates, which is empty for each test."""
    return engine


alembic_runner = create_alembic_fixture(migration_config())
