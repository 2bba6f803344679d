"""The page's history: how far it reaches, and where it is kept."""

from __future__ import annotations

import itertools
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fixtures.portal import client_of, everybody
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.health._history import HealthHistory, outlived
from sqla_seqreserve.health.report import HealthReport, SequenceHealth
from sqla_seqreserve.web import health_app

STATE = "/system/sequences/state"
DAY = 24 * 3600.0

ORDERS = SequenceHealth(
    table="orders",
    column="id",
    sequence="orders_id_seq",
    last_value=7,
    next_value=8,
    table_max_id=7,
    is_healthy=True,
    gap=0,
    status="OK",
    severity="LOW",
    used_fraction=0.1,
)
KEY = ("orders", "id", "orders_id_seq")
START = datetime(2026, 3, 1, tzinfo=UTC)


def report(seconds: float, value: int | None = 7, gap: int = 0) -> HealthReport:
    entry = replace(ORDERS, last_value=value, gap=gap)
    return HealthReport(sequences=(entry,), checked_at=START + timedelta(seconds=seconds))


def execute(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


async def gaps(url: str, **options: Any) -> list[int]:
    """Look once, with a new application, and return the gaps of the one sequence's history."""
    app = health_app(url, authorise=everybody, **options)
    async with app.router.lifespan_context(app), client_of(app) as client:
        answer = await client.get(STATE)
        assert answer.status_code == 200
        (entry,) = answer.json()["sequences"]
    return [gap for _, _, gap in entry["history"]]


async def test_a_file_keeps_it_over_restarts(database_url: str, tmp_path: Path) -> None:
    """With a file the history survives a restart; without one it begins again."""
    kept = {"history": tmp_path / "history.db"}
    execute(database_url, "CREATE TABLE orders (id bigserial PRIMARY KEY)")
    assert await gaps(database_url, **kept) == [0]
    assert await gaps(database_url) == [0]
    execute(database_url, "INSERT INTO orders (id) VALUES (5)")
    assert await gaps(database_url, **kept) == [0, 5]
    assert await gaps(database_url) == [5]


async def test_databases_share_a_file_and_no_history(
    database_url: str, clone_database: Any, tmp_path: Path
) -> None:
    """Sequences of the same name in two databases have separate histories in one file."""
    kept = {"history": str(tmp_path / "history.db")}
    execute(database_url, "CREATE TABLE orders (id bigserial PRIMARY KEY)")
    other = clone_database(database_url)
    execute(other, "INSERT INTO orders (id) VALUES (5)")
    assert await gaps(database_url, **kept) == [0]
    assert await gaps(other, **kept) == [5]
    assert make_url(other).database != make_url(database_url).database


@pytest.mark.parametrize("case", ["folder", "no folder", "another file"])
def test_a_file_that_cannot_be_used_is_refused_at_once(case: str, tmp_path: Path) -> None:
    """An unusable history file is refused at once; the error names it, and it stays unchanged."""
    file = {"no folder": tmp_path / "none" / "x"}.get(case, tmp_path / "x")
    if case == "folder":
        file.mkdir()
    elif case == "another file":
        file.write_text("my diary " * 200)
    with pytest.raises(ConfigurationError, match=f"history: {file} cannot be used"):
        health_app("postgresql://h/d", authorise=everybody, history=file)
    if case == "another file":
        assert file.read_text() == "my diary " * 200


async def test_a_file_that_breaks_later_does_not_take_the_page_with_it(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A history that cannot be written is a warning in the log, and health is answered."""
    file = tmp_path / "history.db"
    execute(database_url, "CREATE TABLE orders (id bigserial PRIMARY KEY)")
    app = health_app(database_url, authorise=everybody, history=file)
    file.write_bytes(b"\xff" * 9000)
    with caplog.at_level(logging.WARNING, "sqla_seqreserve.web"):
        async with app.router.lifespan_context(app), client_of(app) as client:
            for path in ("/system/sequence-health", STATE):
                answer = await client.get(path)
                assert answer.status_code == 200
    assert answer.json()["sequences"][0]["history"] == []
    assert "the history of checks" in caplog.text


def test_many_at_once_write_one_file(tmp_path: Path) -> None:
    """Several processes' histories in one file, from several threads, lose no check."""
    histories = [HealthHistory(tmp_path / "history.db") for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        done = [
            threads.submit(histories[i % 4].add, f"place {i % 8}", report(i, value=i))
            for i in range(80)
        ]
        assert [each.result() for each in done] == [None] * 80
    for place in range(8):
        values = {value for _, value, _ in histories[0].points(f"place {place}")[KEY]}
        assert max(values) == 72 + place


@pytest.mark.parametrize("seed", range(5))
def test_the_past_thins_out_and_stays_bounded(seed: int) -> None:
    """However often and for how long it is looked at: a bounded number of checks, the near past
    close together, the far past there, and nothing older than thirty days.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    now, times = 0.0, [0.0]
    ended = chance.choice([2, 40]) * DAY
    while now < ended:
        now += chance.choice([0.05, 10, 10, 10, 300, 3600])
        times.insert(0, now)
        gone = set(outlived(times))
        times = [time for time in times if time not in gone]
        assert len(times) < 160
    ages = [now - time for time in times]
    assert ages[-1] <= 30 * DAY
    assert ages[-1] > min(ended, 30 * DAY) * 0.7
    for younger, older in itertools.pairwise(ages):
        assert older - younger <= 3600 + older * 0.15


def test_what_did_not_change_takes_no_place() -> None:
    """Of consecutive checks with the same result only the first and the last are sent."""
    history = HealthHistory()
    for number, (value, gap) in enumerate([(7, 0)] * 5 + [(9, 0)] + [(9, 3)] * 3):
        history.add("here", report(60 * number, value=value, gap=gap))
    seen = [(value, gap) for _, value, gap in history.points("here")[KEY]]
    assert seen == [(7, 0), (7, 0), (9, 0), (9, 3), (9, 3)]


def test_many_viewers_do_not_push_the_past_out() -> None:
    """A check with the same result as one a moment ago is not remembered."""
    history = HealthHistory()
    for number in range(4):
        history.add("here", report(number))
    (only,) = history.points("here")[KEY]
    assert only[0] == START.isoformat()


def test_checks_of_other_models_are_kept_beside_each_other() -> None:
    """If one history gets checks of several models of one database, each keeps its own past, also
    when a table is added.
    """
    history = HealthHistory()
    invoices = replace(ORDERS, table="invoices", sequence="invoices_id_seq")
    for minutes in range(0, 600, 5):
        for delay, entries in enumerate([(ORDERS,), (invoices,)]):
            at = START + timedelta(minutes=minutes, milliseconds=delay)
            counted = tuple(replace(entry, ids_left=9_000 - minutes) for entry in entries)
            history.add("shop", HealthReport(sequences=counted, checked_at=at))
    both = (replace(ORDERS, ids_left=5), replace(invoices, ids_left=5))
    history.add("shop", HealthReport(sequences=both, checked_at=START + timedelta(hours=10)))
    seen = history.seen("shop")
    assert len(seen) == 2
    assert all(len(past) > 20 and past[-1][1] == 5 for past in seen.values())
    month = START + timedelta(days=31)
    history.add("shop", HealthReport(sequences=(ORDERS,), checked_at=month))
    assert history.seen("shop") == {}
    assert history.seen("sho") == {}
