"""``sqla-seqreserve watch``: check on schedule, and tell of what changed."""

from __future__ import annotations

import logging
import re
import signal
import threading
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError, SeqReserveError
from sqla_seqreserve.health import check_sequences

from ._alerts import Alerts
from ._app import app
from ._options import SchemaOption, TargetArgument, UrlOption, errors_as_exit_codes, needs_extra
from ._target import Target, resolve
from ._watching import Change, Watcher

__all__ = ["watch"]

_log = logging.getLogger("sqla_seqreserve.watch")

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@app.command()
def watch(
    target: TargetArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = None,
    every: Annotated[str, typer.Option(help="Time between two checks: 30s, 5m, 1h.")] = "5m",
    alert_gap: Annotated[
        int, typer.Option(min=0, help="Alert when a sequence is behind by more than this.")
    ] = 10,
    alert_command: Annotated[
        str | None, typer.Option(help="Command to run; gets the alert as JSON on its input.")
    ] = None,
    alert_webhook: Annotated[
        str | None, typer.Option(help="URL to post the alert to, as JSON.", show_envvar=True)
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve Prometheus metrics on this port of 127.0.0.1.")
    ] = None,
) -> None:
    """Check every sequence on schedule, until SIGTERM or Ctrl-C.

    Logs each change of state once, alerts when a sequence falls behind and when it is well again,
    and estimates when each one runs out. Outlives restarts of the database.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _log.setLevel(logging.INFO)
    # Its line for every check says again, each time, what a change says once.
    logging.getLogger("sqla_seqreserve.health").setLevel(logging.ERROR)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    with errors_as_exit_codes():
        seconds = _seconds(every)
        alerts = Alerts(command=alert_command, webhook=alert_webhook)
        rounds = _Rounds(
            resolve(target, url, schema), Watcher(alert_gap=alert_gap), alerts, metrics_port
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        _log.info("watching, every %s", every)
        while True:
            rounds.look()
            if stop.wait(seconds):
                break
    _log.info("stopped")


class _Rounds:
    """One check after the other on the same target."""

    def __init__(
        self, target: Target, watcher: Watcher, alerts: Alerts, metrics_port: int | None
    ) -> None:
        self.target = target
        self.watcher = watcher
        self.alerts = alerts
        self.metrics = None
        if metrics_port is not None:
            with needs_extra("metrics"):
                from sqla_seqreserve.metrics import HealthMetrics, serve_metrics
            self.metrics = HealthMetrics()
            try:
                serve_metrics(metrics_port)
            except (OSError, OverflowError) as error:
                raise ConfigurationError(f"--metrics-port {metrics_port}: {error}") from error

    def look(self) -> None:
        """Check once and tell of what changed."""
        try:
            with self.target.engine.connect() as connection:
                report = check_sequences(
                    connection, self.target.source, schemas=self.target.schemas
                )
        except SeqReserveError:
            # Wrongly called: the next round would be no better.
            raise
        except SQLAlchemyError as error:
            if self.metrics is not None:
                self.metrics.failed()
            reason = error.orig if isinstance(error, DBAPIError) else error
            self._tell(self.watcher.lost(str(reason).strip()))
            return
        if self.metrics is not None:
            self.metrics.observe(report)
        self._tell(self.watcher.observe(report))
        for entry, left in self.watcher.running_out(report):
            audit.emit(
                _log,
                logging.WARNING,
                "sequence_runs_out",
                "%s runs out in about %s at the rate seen",
                entry.sequence,
                f"{left.days} days" if left.days else f"{left.seconds // 60} minutes",
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
                "%s: %s, before %s: %s",
                change.subject,
                change.now,
                change.before or "not seen",
                change.message,
                subject=change.subject,
                before=change.before,
                now=change.now,
                alert=change.alerting,
            )
            if change.worth_an_alert:
                self.alerts.send(change)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or not float(match[1]):
        raise ConfigurationError(f"--every: expected a time like 30s, 5m or 1h, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]
