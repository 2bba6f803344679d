"""The memory of ``watch``: each change is reported once, and ends are estimated."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sqla_seqreserve.cli._alerts import Alerts
from sqla_seqreserve.cli._watching import Change, Watcher
from sqla_seqreserve.health import HealthReport, SequenceHealth
from sqla_seqreserve.health.report import Status

START = datetime(2024, 5, 1, tzinfo=UTC)


def report(
    hours: float, *, gap: int = 0, status: Status | None = None, used: float = 0.1
) -> HealthReport:
    status = status or ("NEEDS_REPAIR" if gap else "OK")
    entry = SequenceHealth(
        table="t",
        column="id",
        sequence="s",
        last_value=1,
        next_value=2,
        table_max_id=1,
        is_healthy=status == "OK",
        gap=gap,
        status=status,
        severity="LOW",
        used_fraction=used,
    )
    return HealthReport(sequences=(entry,), checked_at=START + timedelta(hours=hours))


def test_each_change_is_told_once() -> None:
    """An alert begins when the gap exceeds the limit, ends when the sequence is healthy, and is not
    repeated in between.
    """
    watcher = Watcher(alert_gap=10)
    told = [
        [(change.now, change.worth_an_alert) for change in watcher.observe(report(hour, gap=gap))]
        for hour, gap in enumerate([0, 10, 10, 11, 500, 3, 0, 0])
    ]
    assert told == [
        [],
        [("NEEDS_REPAIR", False)],
        [],
        [("NEEDS_REPAIR", True)],
        [],
        [("NEEDS_REPAIR", True)],
        [("OK", False)],
        [],
    ]


def test_what_is_missing_alerts_without_a_gap() -> None:
    """A missing sequence has no gap, but alerts even if gaps are allowed."""
    (change,) = Watcher(alert_gap=10).observe(report(0, status="NEEDS_REPAIR"))
    assert change.worth_an_alert
    assert change.to_dict()["alert"] == "firing"


def test_a_lost_database_is_told_once() -> None:
    """A lost database, and its return, is one change each; the sequences' states are kept
    meanwhile.
    """
    watcher = Watcher(alert_gap=10)
    watcher.observe(report(0, gap=20))
    assert [len(watcher.lost("refused")) for _ in range(3)] == [1, 0, 0]
    (back,) = watcher.observe(report(1, gap=20))
    assert (back.subject, back.now, back.worth_an_alert) == ("database", "back", True)


def test_an_alert_ends_when_its_sequence_is_gone() -> None:
    """If a sequence with an alert is dropped or renamed, the alert ends once."""
    watcher = Watcher()
    (begun,) = watcher.observe(report(0, gap=5))
    nothing = replace(report(1), sequences=())
    (ended,) = watcher.observe(nothing)
    assert (ended.subject, ended.now, ended.worth_an_alert) == ("s", "gone", True)
    text = ended.to_dict()
    assert (text["alert"], text["since"]) == ("resolved", begun.since.isoformat())
    assert (text["sequence"], text["severity"], text["findings"]) == ("s", "LOW", [])
    assert watcher.firing == watcher.observe(nothing) == []


def test_an_alert_does_not_end_unseen() -> None:
    """An alert continues while its sequence cannot be read, and ends when it is healthy."""
    watcher = Watcher()
    watcher.observe(report(0, gap=5))
    (unseen,) = watcher.observe(report(1, status="UNREADABLE"))
    assert (unseen.now, unseen.alerting, unseen.worth_an_alert) == ("UNREADABLE", True, False)
    (ended,) = watcher.observe(report(2))
    assert (ended.now, ended.worth_an_alert) == ("OK", True)
    assert Watcher().observe(report(1, status="UNREADABLE"))[0].worth_an_alert is False


def test_an_end_within_the_horizon_is_told_once() -> None:
    """A sequence that runs out later than an alert's limit is reported once, without an alert."""
    watcher = Watcher()
    (entry,) = report(0).sequences
    later = replace(
        report(0), sequences=(replace(entry, ends_at=START + timedelta(days=60), ids_left=5),)
    )
    assert watcher.observe(later) == []
    assert [len(watcher.running_out(later)) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(("gap", "alerts"), [(1, 1), (0, 0)])
def test_any_gap_alerts_by_default(gap: int, alerts: int) -> None:
    """By default a sequence that is one id behind alerts, because the next INSERT fails."""
    assert len([c for c in Watcher().observe(report(0, gap=gap)) if c.worth_an_alert]) == alerts


@pytest.mark.parametrize(
    ("ending", "level", "said"),
    [("true", logging.INFO, "exit code 0"), ("exit 7", logging.ERROR, "exit code 7")],
)
def test_the_alert_command_goes_through_a_shell(
    ending: str, level: int, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An alert's command runs in a shell with the alert on standard input, and its exit code is
    logged.
    """
    caplog.set_level(logging.INFO, "sqla_seqreserve")
    change = Change("s", "OK", "NEEDS_REPAIR", True, False, "5 behind", START, START)

    Alerts(command=f"cat | cat > '{tmp_path}/alert' ; {ending}", webhook=None).send(change)

    assert json.loads((tmp_path / "alert").read_text())["subject"] == "s"
    [record] = caplog.records
    assert record.levelno == level
    assert said in record.getMessage()
