"""The forecast of a sequence's end, from earlier checks, and its warnings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from sqla_seqreserve.cli._watching import Watcher
from sqla_seqreserve.health import HealthReport, SequenceHealth, check_sequences
from sqla_seqreserve.health._history import HealthHistory, Seen, key_of
from sqla_seqreserve.health._outlook import Limits, with_outlook
from sqla_seqreserve.metrics import HealthMetrics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 86_400.0


def report(*, left: int, used: float = 0.1, gap: int = 0, at: datetime = NOW) -> HealthReport:
    entry = SequenceHealth(
        table="t",
        column="id",
        sequence="s",
        last_value=1,
        next_value=2,
        table_max_id=1,
        is_healthy=not gap,
        gap=gap,
        status="NEEDS_REPAIR" if gap else "OK",
        severity="LOW",
        used_fraction=used,
        ids_left=left,
        more_ids="ALTER SEQUENCE s AS bigint",
    )
    return HealthReport(sequences=(entry,), checked_at=at)


def outlook(now: HealthReport, *seen: Seen, limits: Limits | None = None) -> SequenceHealth:
    (entry,) = now.sequences
    (entry,) = with_outlook(now, {key_of(entry): seen}, limits).sequences
    return entry


def ago(days: float, left: int, gap: int = 0) -> Seen:
    return NOW.timestamp() - days * DAY, left, gap


@pytest.mark.parametrize(
    ("seen", "a_day"),
    [
        ([ago(0.5, 1_100)], 200),
        ([ago(6, 1_600), ago(1, 1_010)], 100),
        ([ago(6, 1_100), ago(1, 1_050)], 50),
        ([ago(0.001, 1_010)], 240),
        ([ago(1, 1_000)], None),
        ([], None),
        ([ago(20, 9_000)], None),
    ],
    ids=["half a day", "the week", "the day", "a burst", "no id taken", "no check", "too old"],
)
def test_the_rate_is_that_of_the_day_or_the_week(seen: list[Seen], a_day: float | None) -> None:
    """The forecast uses the faster of the day's and the week's rate; less than an hour counts as an
    hour.
    """
    entry = outlook(report(left=1_000), *seen)
    if a_day is None:
        assert (entry.ids_a_day, entry.ends_at) == (None, None)
    else:
        assert entry.ids_a_day == pytest.approx(a_day)
        assert entry.ends_at is not None
        assert (entry.ends_at - NOW) / timedelta(days=1) == pytest.approx(1_000 / a_day)


def test_an_import_and_a_wider_type_are_no_rate() -> None:
    """Values from before a sequence was behind, or before its type was widened, do not count for
    the rate.
    """
    imported = outlook(report(left=1_000), ago(1, 9_000), ago(0.5, 1_050, gap=7_000))
    assert imported.ids_a_day == pytest.approx(100)
    widened = outlook(report(left=1_000), ago(1, 10), ago(0.5, 1_050))
    assert widened.ids_a_day == pytest.approx(100)
    assert outlook(report(left=1_000, gap=5), ago(1, 2_000)).ids_a_day is None


@pytest.mark.parametrize(
    ("used", "days", "limits", "near"),
    [
        (0.79, 31, None, False),
        (0.80, 31, None, True),
        (0.10, 29, None, True),
        (0.80, 31, Limits(used=0.9), False),
        (0.10, 29, Limits(days=7), False),
        (0.10, 6, Limits(days=7), True),
    ],
)
def test_a_share_used_and_days_left_are_limits(
    used: float, days: float, limits: Limits | None, near: bool
) -> None:
    """A sequence beyond either limit, of used share or days left, is a warning of severity HIGH."""
    entry = outlook(
        report(left=1_000, used=used), ago(1, 1_000 + round(1_000 / days)), limits=limits
    )
    found = [f for f in entry.findings if f.code == "NEAR_EXHAUSTION"]
    assert bool(found) is near
    assert (entry.status, entry.severity) == (("WARNING", "HIGH") if near else ("OK", "LOW"))
    if near:
        assert "1,000 are left; at " in found[0].message
        assert found[0].remedy == "ALTER SEQUENCE s AS bigint"


def test_an_alert_of_the_end_does_not_flap() -> None:
    """The alert of an end begins at the limit, and ends only when the last id is a quarter further
    away.
    """
    watcher = Watcher()
    told = []
    for days in (31, 29, 31, 36, 39):
        now = with_outlook(
            report(left=100_000),
            {("t", "id", "s"): [ago(1, 100_000 + round(100_000 / days))]},
        )
        told.append([change.alerting for change in watcher.observe(now)])
    assert told == [[], [True], [], [], [False]]


def test_history_outlives_the_process(tmp_path: Path) -> None:
    """Two histories on one file forecast as one does; each database has its own."""
    file = tmp_path / "state"
    before = report(left=1_100, at=NOW - timedelta(days=1))
    HealthHistory(file).add("a", before)
    again = HealthHistory(file)
    (entry,) = with_outlook(report(left=1_000), again.seen("a")).sequences
    assert entry.ids_a_day == pytest.approx(100)
    assert again.seen("b") == {}


@pytest.mark.parametrize("increment", [1, -1, 10, -7])
def test_ids_left_are_those_that_insert(engine: Engine, increment: int) -> None:
    """As many INSERTs succeed as ids are reported as left, with any step; then none is left."""
    bound = "MAXVALUE 100" if increment > 0 else "MINVALUE -100"
    with engine.begin() as connection:
        for statement in (
            f"CREATE SEQUENCE s INCREMENT {increment} {bound}",
            "CREATE TABLE t (id smallint DEFAULT nextval('s'))",
            "INSERT INTO t SELECT FROM generate_series(1, 3)",
        ):
            connection.execute(text(statement))
        (entry,) = check_sequences(connection, None).sequences
        assert entry.ids_left
        connection.execute(
            text("INSERT INTO t SELECT FROM generate_series(1, :n)"), {"n": entry.ids_left}
        )
        (entry,) = check_sequences(connection, None).sequences
    assert (entry.ids_left, entry.status) == (0, "EXHAUSTED")


def test_a_sequence_that_cycles_has_no_end(engine: Engine) -> None:
    """A sequence with CYCLE gets a warning of its own, and no forecast."""
    with engine.begin() as connection:
        connection.execute(text("CREATE SEQUENCE s MAXVALUE 10 CYCLE"))
        connection.execute(text("SELECT setval('s', 9)"))
        (entry,) = check_sequences(connection, None).sequences
    assert (entry.ids_left, entry.more_ids) == (None, None)


def test_ids_and_seconds_left_are_metrics() -> None:
    """The ids and the seconds left are exposed if they are known, with labels for database and
    schema.
    """
    registry = CollectorRegistry()
    metrics = HealthMetrics(registry)
    labels = {"database": "", "schema": "", "table": "t", "column": "id", "sequence": "s"}
    (entry,) = report(left=1_000).sequences
    metrics.observe(with_outlook(report(left=1_000), {key_of(entry): [ago(1, 1_100)]}))
    assert registry.get_sample_value("seqreserve_sequence_ids_left", labels) == 1_000
    left = registry.get_sample_value("seqreserve_sequence_seconds_left", labels)
    assert left == pytest.approx(10 * DAY)
    metrics.observe(report(left=1_000))
    assert registry.get_sample_value("seqreserve_sequence_seconds_left", labels) is None
