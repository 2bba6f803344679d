"""SQLAlchemy's own tests, on plain SQLAlchemy and with this package: see ``python -m
tests.conformance --help``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
ONE_FILE = "test/orm/test_defaults.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run_standin(standin: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run one file with a stand-in for this package; return the exit code and the verdict."""
    summary = folder / "summary.json"
    done = run(ONE_FILE, f"--register=standins:{standin}", f"--summary={summary}")
    assert summary.is_file(), done.stdout
    return done.returncode, json.loads(summary.read_text())


def test_no_test_of_sqlalchemy_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Every test of the unit of work that passes on plain SQLAlchemy passes with this package by
    COPY.
    """
    done = run()

    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout


def test_the_run_accepts_a_faithful_registration(tmp_path: Path) -> None:
    """The run succeeds with a registration that breaks no test and reports rows by COPY."""
    code, verdict = run_standin("faithful", tmp_path)

    assert code == 0
    assert verdict["plain_passed"] == verdict["ours_passed"] > 0


def test_the_run_refuses_a_registration_that_falls_back(tmp_path: Path) -> None:
    """The run fails with a registration that leaves every row to SQLAlchemy, though no test is
    lost.
    """
    code, verdict = run_standin("falls_back", tmp_path)

    assert code == 1
    assert verdict["lost"] == {}
    assert verdict["rows"]["orm"] > 0


def test_the_run_finds_what_an_unfaithful_registration_loses(tmp_path: Path) -> None:
    """The run reports each test that a registration breaks, with the first lines of its failure."""
    code, verdict = run_standin("unfaithful", tmp_path)

    assert code == 1
    lost = verdict["lost"]["test/orm/test_defaults.py::TriggerDefaultsTest::test_update"]
    assert lost.startswith("RuntimeError: an unfaithful registration")


def test_the_run_survives_a_registration_that_kills_it(tmp_path: Path) -> None:
    """If a registration ends the process, the run fails, and the tests that did not run are
    lost.
    """
    code, verdict = run_standin("deadly", tmp_path)

    assert code == 1
    assert "did not run" in verdict["lost"].values()
    assert any("died" in problem for problem in verdict["problems"])
