"""Saving while types, triggers, rules, tables, roles and search paths change: no value is wrong, no
row is lost, no key is another row's, and nothing deadlocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.run_names import of_this_run
from fixtures.seeds import seed
from sqlalchemy import create_engine, text

ROLE = of_this_run("chaos_saver")
PROGRAM = Path(__file__).with_name("chaos.py")
SECONDS = float(os.environ.get("SQLA_SEQRESERVE_FUZZ_SECONDS", "600")) / 4
SHORT = 8.0
EXPECTED = {"40001", "42P01", "55P03"}


@contextlib.contextmanager
def saver_role(url: str) -> Iterator[None]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {ROLE}"))
        try:
            yield
        finally:
            connection.execute(text(f"DROP OWNED BY {ROLE}"))
            connection.execute(text(f"DROP ROLE {ROLE}"))
    engine.dispose()


def let_loose(url: str, side: str, seconds: float, seed: int) -> None:
    with saver_role(url):
        done = subprocess.run(
            [sys.executable, PROGRAM, url, str(seed), str(seconds), side],
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
            env={**os.environ, "CHAOS_ROLE": ROLE},
        )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    errors: Counter[str] = Counter()
    for seen in outcome["seen"]:
        errors.update(seen["errors"])
    steps = Counter(dict.fromkeys(("save", "alter", "repair"), 0))
    for seen in outcome["seen"]:
        steps[seen["kind"]] += seen["done"]
    rows = sum(seen["rows"] for seen in outcome["seen"])
    told = f"seed {seed}, {side}: {dict(steps)}, {rows} rows, errors {dict(errors)}"
    print(told)
    assert min(steps.values()) > 0, told
    found = {
        "wrong values": {table: rows for table, rows in outcome["wrong"].items() if rows},
        "lost rows": [tag for seen in outcome["seen"] for tag in seen["lost"]],
        "keys that lead astray": [key for seen in outcome["seen"] for key in seen["misled"]],
        "errors": {e: n for e, n in errors.items() if e.split()[-1] not in EXPECTED},
    }
    found = {name: some for name, some in found.items() if some}
    assert not found, f"{told}\n{json.dumps(found, indent=1)}"


def test_a_short_chaos(database_url: str) -> None:
    """While everything changes for some seconds, registered sessions store every row with its
    values and its key.
    """
    let_loose(database_url, "ours", SHORT, seed())


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("side", ["plain", "ours"])
def test_a_long_chaos(database_url: str, side: str) -> None:
    """Over a longer time the same is true of registered sessions, and of plain SQLAlchemy as a
    check of the test.
    """
    let_loose(database_url, side, SECONDS, seed(anew=True))
