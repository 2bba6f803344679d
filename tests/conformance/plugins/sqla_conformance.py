"""A pytest plugin for SQLAlchemy's own suite.

It switches off assertions on SQL text, registers this package if an option says so, and records
every outcome. It is loaded before the suite's conftest, which must be the first to import
``sqlalchemy.testing``; so the plugin imports SQLAlchemy in its hooks only.
"""

from __future__ import annotations

import importlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import pytest

_MESSAGE_LINES = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-results", type=Path, help="file to record outcomes in")
    group.addoption("--conformance-register", metavar="MODULE:FUNCTION", help="what to register")
    group.addoption("--conformance-settings", default="copy", help="copy or default")


def pytest_configure(config: pytest.Config) -> None:
    recorder = Recorder(config.getoption("--conformance-results"))
    config.pluginmanager.register(recorder, "sqla_conformance_recorder")
    config.add_cleanup(recorder.close)


class Recorder:
    """Writes one JSON line per test as soon as the test ends, so that a crash loses no earlier
    line.
    """

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w")
        self._started = time.monotonic()
        self._reports: list[pytest.TestReport] = []
        self._rows: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        _drop_sql_assertions()
        if register := session.config.getoption("--conformance-register"):
            module, _, function = register.partition(":")
            copies = session.config.getoption("--conformance-settings") == "copy"
            settings = {"copy_min_rows": 1} if copies else {}
            self._register(getattr(importlib.import_module(module), function), settings)

    def _register(self, register: Any, settings: dict[str, Any]) -> None:
        from sqlalchemy.orm import Session, events

        def activate() -> Any:
            registration = register(Session, **settings)
            registration.on_flush(self._count)
            return registration

        active = activate()

        # Some tests clear all listeners of the ORM at their end, including this package's.
        clear = events.SessionEvents._clear

        def clear_and_register_again() -> None:
            nonlocal active
            active.unregister()
            clear()
            active = activate()

        setattr(events.SessionEvents, "_clear", clear_and_register_again)  # noqa: B010 - typed as fixed

    def _count(self, report: Any) -> None:
        for entry in report.entries:
            # The rows of new objects alone show whether COPY writes rows.
            kind = getattr(entry, "kind", "insert")
            writer = entry.writer if kind == "insert" else f"{kind} by {entry.writer}"
            self._rows[writer] += entry.rows
            if entry.writer != "copy":
                self._reasons[f"{writer}: {entry.reason}"] += entry.rows

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write("test", test=report.nodeid, outcome="error", message=_first_lines(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        reports, self._reports = self._reports, []
        bad = next((report for report in reports if not report.passed), None)
        self._write(
            "test",
            test=nodeid,
            outcome=bad.outcome if bad else "passed",
            seconds=round(sum(report.duration for report in reports), 3),
            message=_first_lines(bad) if bad and bad.failed else "",
        )

    def pytest_sessionfinish(self) -> None:
        self._write("end", seconds=round(time.monotonic() - self._started, 1))

    def _write(self, kind: str, **values: Any) -> None:
        record = {"kind": kind, "seconds": 0.0, "message": "", **values}
        record |= {"rows": dict(self._rows), "reasons": dict(self._reasons)}
        self._rows.clear()
        self._reasons.clear()
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _drop_sql_assertions() -> None:
    # Every assertion on the text or the number of statements calls this method.
    from sqlalchemy.testing.assertsql import SQLAsserter

    setattr(SQLAsserter, "assert_", lambda self, *rules: None)  # noqa: B010 - typed as fixed


def _first_lines(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = f"{crash.message}\n{crash.path}:{crash.lineno}" if crash else report.longreprtext
    lines = text.strip().splitlines()
    return "\n".join(lines[:_MESSAGE_LINES])
