"""The rules for Prometheus and the dashboard for Grafana that the package carries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.patience import PATIENCE
from prometheus_client import CollectorRegistry

from sqla_seqreserve.metrics import HealthMetrics, LibraryMetrics


def printed(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sqla_seqreserve", command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def exposed() -> set[str]:
    registry = CollectorRegistry()
    HealthMetrics(registry)
    library = LibraryMetrics(registry)
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in registry.collect()
    }
    library.close()
    return names


@pytest.mark.parametrize("command", ["rules", "dashboard"])
def test_each_metric_that_is_asked_for_is_exposed(command: str) -> None:
    """No rule and no panel asks for a metric that nobody has."""
    asked = set(re.findall(r"\bseqreserve_\w+", printed(command)))
    assert asked
    assert asked <= exposed()


def test_the_dashboard_can_be_imported() -> None:
    """It is JSON with panels that each have a number of their own, and asks for its Prometheus."""
    dashboard = json.loads(printed("dashboard"))
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers) > 5
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == [
        "datasource",
        "database",
    ]


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool: install Debian's package prometheus")
    return subprocess.run(
        [found, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """Prometheus' own tool checks their syntax."""
    (tmp_path / "rules.yml").write_text(printed("rules"))
    done = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS: 6 rules found" in done.stdout


# Of each rule: a series on which it fires, and one on which it does not.
LABELS = '{database="shop", sequence="s", table="t"}'
SERIES = {
    "SequenceBehind": (f"seqreserve_sequence_gap{LABELS}", "1x90", "0x90"),
    "SequenceNearlyUsedUp": (f"seqreserve_sequence_used_ratio{LABELS}", "0.8x90", "0.79x90"),
    "SequenceEndsSoon": (
        f"seqreserve_sequence_seconds_left{LABELS}",
        "2500000x90",
        "2600000x90",
    ),
    "SequenceChecksFail": ("seqreserve_check_failures_total", "0+1x90", "5x90"),
    "SequenceChecksStopped": ("seqreserve_check_timestamp_seconds", "0x90", "0+60x90"),
}


@pytest.mark.parametrize("rule", SERIES)
def test_a_rule_fires_when_it_should(rule: str, tmp_path: Path) -> None:
    """Run by promtool on a series that is bad and on one that is well."""
    series, bad, good = SERIES[rule]
    (tmp_path / "rules.yml").write_text(printed("rules"))
    for values, fires in ((bad, 1), (good, 0)):
        (tmp_path / "test.yml").write_text(
            json.dumps(
                {
                    "rule_files": ["rules.yml"],
                    "evaluation_interval": "1m",
                    "tests": [
                        {
                            "interval": "1m",
                            "input_series": [{"series": series, "values": values}],
                            "promql_expr_test": [
                                {
                                    "expr": f'count(ALERTS{{alertname="{rule}", '
                                    'alertstate="firing"}) or vector(0)',
                                    "eval_time": "85m",
                                    "exp_samples": [{"labels": "{}", "value": fires}],
                                }
                            ],
                        }
                    ],
                }
            )
        )
        done = promtool("test", "rules", "test.yml", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
