"""SQLAlchemy's own tests, with us and without: see ``python -m tests.conformance --help``."""

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
    """Run one file with a stand-in for us; return the exit code and the verdict."""
    summary = folder / "summary.json"
    done = run(ONE_FILE, f"--register=standins:{standin}", f"--summary={summary}")
    assert summary.is_file(), done.stdout
    return done.returncode, json.loads(summary.read_text())


def test_no_test_of_sqlalchemy_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Every test of the unit of work that stock SQLAlchemy passes, it passes with us, by COPY."""
    done = run()

    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout


def test_the_run_accepts_a_faithful_registration(tmp_path: Path) -> None:
    """A registration that loses nothing and takes rows by COPY passes."""
    code, verdict = run_standin("faithful", tmp_path)

    assert code == 0
    assert verdict["stock_passed"] == verdict["ours_passed"] > 0


def test_the_run_refuses_a_registration_that_falls_back(tmp_path: Path) -> None:
    """A registration that leaves every row to SQLAlchemy fails, though it loses nothing."""
    code, verdict = run_standin("falls_back", tmp_path)

    assert code == 1
    assert verdict["lost"] == {}
    assert verdict["rows"]["orm"] > 0


def test_the_run_finds_what_an_unfaithful_registration_loses(tmp_path: Path) -> None:
    """Each test that a registration breaks is named, with the first lines of its failure."""
    code, verdict = run_standin("unfaithful", tmp_path)

    assert code == 1
    lost = verdict["lost"]["test/orm/test_defaults.py::TriggerDefaultsTest::test_update"]
    assert lost.startswith("RuntimeError: an unfaithful registration")


def test_the_run_survives_a_registration_that_kills_it(tmp_path: Path) -> None:
    """A process that dies half-way is a failed run whose remaining tests are lost."""
    code, verdict = run_standin("deadly", tmp_path)

    assert code == 1
    assert "did not run" in verdict["lost"].values()
    assert any("died" in problem for problem in verdict["problems"])
