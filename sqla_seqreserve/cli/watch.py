"""``sqla-seqreserve watch``: check on schedule, and report what changed."""

from __future__ import annotations

import logging
import re
import signal
import threading
from dataclasses import replace
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError, SeqReserveError
from sqla_seqreserve.health import HealthReport
from sqla_seqreserve.health._history import HealthHistory

from ._alerts import AlertFormat, Alerts
from ._app import OPERATE, app
from ._looking import history_in, limits_of, look
from ._options import (
    TARGET_HELP,
    AlertDaysOption,
    AlertUsedOption,
    AllDatabasesOption,
    SchemaOption,
    StateOption,
    SubscriberOption,
    UrlOption,
    errors_as_exit_codes,
    needs_extra,
    reason_of,
)
from ._reports import count
from ._target import Target, resolve
from ._watching import Change, Watcher

__all__ = ["watch"]

_log = logging.getLogger("sqla_seqreserve.watch")

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@app.command(rich_help_panel=OPERATE)
def watch(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help=f"{TARGET_HELP} May be several.", show_default=False),
    ] = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    subscriber: SubscriberOption = False,
    all_databases: AllDatabasesOption = False,
    every: Annotated[str, typer.Option(help="Time between two checks: 30s, 5m, 1h.")] = "5m",
    alert_gap: Annotated[
        int, typer.Option(min=0, help="Alert when a sequence is behind by more ids than this.")
    ] = 0,
    alert_used: AlertUsedOption = 80,
    alert_days: AlertDaysOption = 30,
    alert_command: Annotated[
        str | None,
        typer.Option(
            help="Command line for the shell; gets the alert as JSON on its standard input. How "
            "it ended is logged."
        ),
    ] = None,
    alert_webhook: Annotated[
        str | None, typer.Option(help="URL to post the alert to, as JSON.")
    ] = None,
    alert_format: Annotated[
        AlertFormat, typer.Option(help="The shape of an alert: see guide operating.")
    ] = AlertFormat.JSON,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve Prometheus metrics on this port of 127.0.0.1.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Check every sequence on schedule, until SIGTERM or Ctrl-C; a second one ends a check, too.

    Logs each change of state once, alerts when a sequence is behind or near its end and when it is
    healthy again, and estimates when each one will run out. Survives restarts of the database.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _log.setLevel(logging.INFO)
    # Its line for every check would repeat what a change reports once.
    logging.getLogger("sqla_seqreserve.health").setLevel(logging.ERROR)
    stop = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        # A check of a server that does not answer may take minutes: the second signal ends it.
        signal.signal(number, signal.SIG_DFL)
        stop.set()
        _log.info("stopping after this check; a second signal does not wait for it")

    with errors_as_exit_codes():
        seconds = _seconds(every)
        limits = limits_of(alert_used, alert_days)
        history = history_in(state)
        named: list[str | None] = [*targets] if targets else [None]
        found = [resolve(target, url, schema) for target in named]
        if all_databases:
            found = [each for target in found for each in target.each_database()]
        metrics = None if metrics_port is None else _Metrics(metrics_port)
        rounds = [
            _Rounds(
                target,
                Watcher(alert_gap=alert_gap, limits=limits),
                Alerts(
                    command=alert_command,
                    webhook=alert_webhook,
                    shape=alert_format,
                    database=target.database,
                ),
                metrics,
                history=history,
                subscriber=subscriber,
            )
            for target in found
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        watched = ", ".join(str(target.database) for target in found)
        _log.info("watching %s every %s", watched, every)
        while not stop.is_set():
            for each in rounds:
                if not stop.is_set():
                    each.look()
            stop.wait(seconds)
    _log.info("stopped")


class _Metrics:
    """The last report of each target, as one exposition."""

    def __init__(self, port: int) -> None:
        with needs_extra("metrics"):
            from sqla_seqreserve.metrics import HealthMetrics, serve_metrics
        self._metrics = HealthMetrics()
        # Several targets may be in one database: the models of two applications.
        self._reports: dict[tuple[str, str | None], HealthReport] = {}
        try:
            serve_metrics(port)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"--metrics-port {port}: {error}") from error

    def observe(self, target: Target, report: HealthReport) -> None:
        """Expose a report beside those of the other targets."""
        self._reports[str(target.database), target.name] = report
        entries = (entry for each in self._reports.values() for entry in each.sequences)
        self._metrics.observe(replace(report, sequences=tuple(entries)))

    def failed(self) -> None:
        """Count a check that the database did not answer; its last report is still exposed."""
        self._metrics.failed()


class _Rounds:
    """Checks one target again and again."""

    def __init__(
        self,
        target: Target,
        watcher: Watcher,
        alerts: Alerts,
        metrics: _Metrics | None,
        *,
        history: HealthHistory | None = None,
        subscriber: bool = False,
    ) -> None:
        self.target = target
        self.history = history or history_in(None)
        self.subscriber = subscriber
        self.watcher = watcher
        self.alerts = alerts
        self._nothing_told = False
        self.metrics = metrics

    def look(self) -> None:
        """Check once, and report what changed."""
        try:
            report = look(
                self.target, self.history, self.watcher.limits, subscriber=self.subscriber
            ).report
        except SeqReserveError:
            # The command was called wrongly: the next check would fail, too.
            raise
        except (SQLAlchemyError, OSError) as error:
            # asyncpg raises an OSError if no server listens there.
            if self.metrics is not None:
                self.metrics.failed()
            self._tell(self.watcher.lost(reason_of(error)))
            return
        if not report.sequences and not self._nothing_told:
            self._nothing_told = True
            _log.warning("nothing to check yet: %s", self.target.why_nothing())
        if self.metrics is not None:
            self.metrics.observe(self.target, report)
        self._tell(self.watcher.observe(report))
        for entry, left in self.watcher.running_out(report):
            audit.emit(
                _log,
                logging.WARNING,
                "sequence_runs_out",
                "%s runs out in about %s at the rate seen",
                entry.sequence,
                count(left.days, "day") if left.days else count(left.seconds // 60, "minute"),
                sequence=entry.sequence,
                seconds=left.total_seconds(),
            )

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            bad = change.alerting or change.now not in ("OK", "back")
            audit.emit(
                _log,
                logging.WARNING if bad else logging.INFO,
                "sequence_state_changed",
                "%s",
                change,
                subject=change.subject,
                before=change.before,
                now=change.now,
                alert=change.alerting,
            )
            if change.worth_an_alert:
                self.alerts.send(change)
        begun = [change.subject for change in changes]
        self.alerts.repeat([c for c in self.watcher.firing if c.subject not in begun])


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or not float(match[1]):
        raise ConfigurationError(f"--every: expected a time like 30s, 5m or 1h, got {text!r}")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > threading.TIMEOUT_MAX:
        raise ConfigurationError(f"--every: {text} is longer than a process can wait")
    return seconds
