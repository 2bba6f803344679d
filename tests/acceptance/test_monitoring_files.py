"""The rules for Prometheus and the dashboard for Grafana in the package."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixtures.patience import PATIENCE, wait_until
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from sqla_seqreserve.metrics import HealthMetrics, LibraryMetrics


@cache
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
    """Rules and panels use only metrics that are exposed."""
    asked = set(re.findall(r"\bseqreserve_\w+", printed(command)))
    assert asked
    assert asked <= exposed()


def test_the_dashboard_can_be_imported() -> None:
    """The dashboard is JSON, each panel has a number of its own, and it asks for its Prometheus."""
    dashboard = json.loads(printed("dashboard"))
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers) > 5
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == [
        "datasource",
        "database",
    ]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: install Debian's package prometheus")
    return found


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    found = program("promtool")
    return subprocess.run(
        [found, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """Prometheus' own tool accepts the rules' syntax."""
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
    """Run by promtool, a rule fires for a bad series and not for a healthy one."""
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


@contextmanager
def running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(port: int, path: str, **parameters: str) -> Any:
    """The data of a Prometheus' answer; None while it does not answer yet."""
    try:
        said = httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=parameters, timeout=5)
    except httpx.TransportError:
        return None
    assert said.status_code != 400, said.text
    return said.json()["data"] if said.status_code == 200 else None


def test_a_prometheus_alerts_and_answers_the_dashboard(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """A real Prometheus loads the rules, scrapes a watch, alerts only the sequence that is behind,
    and answers each query of the dashboard.
    """
    prometheus = program("prometheus")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE behind (id serial PRIMARY KEY)"))
        connection.execute(text("INSERT INTO behind VALUES (7)"))
        connection.execute(text("CREATE TABLE healthy (id serial PRIMARY KEY)"))
    port, watched = free_port(), free_port()
    (tmp_path / "rules.yml").write_text(printed("rules"))
    settings = {
        "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s"),
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "watch", "static_configs": [{"targets": [f"127.0.0.1:{watched}"]}]}
        ],
    }
    # JSON is YAML, too.
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings))

    def firing() -> set[tuple[str, str]]:
        found = answer(port, "alerts") or {"alerts": []}
        return {
            (alert["labels"]["alertname"], alert["labels"]["sequence"])
            for alert in found["alerts"]
            if alert["state"] == "firing"
        }

    def rules() -> list[Any]:
        return [
            rule
            for group in (answer(port, "rules") or {"groups": []})["groups"]
            for rule in group["rules"]
        ]

    with ExitStack() as stack:
        watch = (sys.executable, "-m", "sqla_seqreserve", "watch", database_url)
        stack.enter_context(running(*watch, "--every", "0.2s", "--metrics-port", str(watched)))
        stack.enter_context(
            running(
                prometheus,
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            )
        )
        wait_until(lambda: ("SequenceBehind", "behind_id_seq") in firing(), "the alert")
        assert {subject for _, subject in firing()} == {"behind_id_seq"}
        wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), lambda: f"{rules()}")
        assert len(rules()) == 6
        for panel in json.loads(printed("dashboard"))["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$database", ".*")
                assert answer(port, "query", query=query) is not None, query
        [behind] = answer(port, "query", query="seqreserve_sequence_gap > 0")["result"]
        assert (behind["metric"]["table"], behind["value"][1]) == ("behind", "7")
