"""Below the agents that applications run in production, each the real package: a registered session
saves what a plain one saves, and the agent shows the same statements in the same places.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.agents

SCRIPT = Path(__file__).with_name("agent_run.py")
DRIVERS = ("psycopg", "psycopg_async", "psycopg2", "asyncpg")
PACKAGES = {
    "ddtrace": "ddtrace",
    "newrelic": "newrelic",
    "elasticapm": "elastic-apm",
    "sentry": "sentry-sdk",
    "otel_sqlalchemy": "opentelemetry-instrumentation-sqlalchemy",
    "otel_psycopg": "opentelemetry-instrumentation-psycopg",
    "otel_psycopg2": "opentelemetry-instrumentation-psycopg2",
    "otel_asyncpg": "opentelemetry-instrumentation-asyncpg",
}
PAIRS = [
    *((agent, driver) for agent in list(PACKAGES)[:5] for driver in DRIVERS),
    ("otel_psycopg", "psycopg"),
    ("otel_psycopg", "psycopg_async"),
    ("otel_psycopg2", "psycopg2"),
    ("otel_asyncpg", "asyncpg"),
]


@pytest.mark.parametrize(("agent", "driver"), PAIRS)
def test_an_agent_shows_the_same_statements(agent: str, driver: str, database_url: str) -> None:
    """Below an agent rows are right, few rows are shown by plain SQLAlchemy's INSERTs, and each
    statement has the same parent span as with plain SQLAlchemy.
    """
    try:
        version(PACKAGES[agent])
    except PackageNotFoundError:
        pytest.fail(f"{PACKAGES[agent]} is missing: pip install '.[test,agents]'")
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), agent, driver, database_url],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    del found["warm"]
    plain = found.pop("plain")
    assert plain["rows"] == [1309, 406]
    for way, ours in found.items():
        assert ours["rows"] == plain["rows"], way
        shown = [tuple(pair) for pair in ours["few"] + ours["many"]]
        # Datadog shows a statement of the driver's below that of SQLAlchemy.
        assert {parent for one, parent in shown if parent != one} <= {"request"}, (way, shown)
    assert plain["few"]
    assert found["default"]["few"] == plain["few"]
