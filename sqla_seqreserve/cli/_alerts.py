"""Sends alerts: to a shell command, as JSON on its standard input, and to a webhook, as a POST
request.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Sequence
from enum import StrEnum
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError

from ._database import Database
from ._watching import Change

_log = logging.getLogger("sqla_seqreserve.watch")

_SECONDS = 30


class AlertFormat(StrEnum):
    """The shape of an alert: our own JSON, a message for Slack, or what Alertmanager takes."""

    JSON = "json"
    SLACK = "slack"
    ALERTMANAGER = "alertmanager"


def _place_of(database: Database | None) -> dict[str, Any]:
    place = database.place if database is not None else (None, None, None)
    return dict(zip(("database", "host", "port"), place, strict=True))


def _summary(alert: dict[str, Any]) -> str:
    where = (
        f"{alert['database'] or 'the default database'} on {alert['host'] or 'the default host'}"
    )
    tables = f" ({', '.join(alert['tables'])})" if alert["tables"] else ""
    return f"{alert['subject']}{tables} of {where}: {alert['now']}"


def _slack(alert: dict[str, Any]) -> dict[str, Any]:
    mark = ":red_circle:" if alert["alert"] == "firing" else ":large_green_circle:"
    lines = [f"{mark} {alert['alert']}, {alert['severity']}: {_summary(alert)}", alert["message"]]
    lines += [f"What to do: {finding['remedy']}" for finding in alert["findings"]]
    lines += [f"```{finding['sql']};```" for finding in alert["findings"] if finding["sql"]]
    lines.append(f"since {alert['since']}")
    text = "\n".join(lines)
    # The three characters that have a special meaning for Slack.
    return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _alertmanager(alert: dict[str, Any]) -> list[dict[str, Any]]:
    labels = {
        "alertname": "SequenceAlert" if alert["sequence"] else "SequenceDatabaseAway",
        "severity": "critical",
        "database": alert["database"],
        "host": alert["host"],
        "schema": alert["schema"],
        "table": ",".join(alert["tables"]),
        "column": alert["column"],
        "sequence": alert["sequence"],
    }
    remedies = "; ".join(finding["sql"] or finding["remedy"] for finding in alert["findings"])
    annotations = {
        "summary": _summary(alert),
        "description": alert["message"],
        "remedy": remedies,
    }
    found: dict[str, Any] = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": annotations,
        "startsAt": alert["since"],
    }
    if alert["alert"] == "resolved":
        found["endsAt"] = alert["at"]
    return [found]


_BODIES: dict[AlertFormat, Callable[[dict[str, Any]], Any]] = {
    AlertFormat.JSON: lambda alert: alert,
    AlertFormat.SLACK: _slack,
    AlertFormat.ALERTMANAGER: _alertmanager,
}


class Alerts:
    """Sends a change in every configured way. A failure is logged, and does not end the watch."""

    def __init__(
        self,
        *,
        command: str | None,
        webhook: str | None,
        shape: AlertFormat = AlertFormat.JSON,
        database: Database | None = None,
    ) -> None:
        self._command = command
        self._body = _BODIES[shape]
        self._place = _place_of(database)
        # Alertmanager regards an alert that is not sent again as ended.
        self._repeats = shape is AlertFormat.ALERTMANAGER
        if webhook and urlsplit(webhook).scheme not in ("http", "https"):
            raise ConfigurationError("--alert-webhook: expected a URL that begins with http(s)://")
        self._webhook = webhook

    def repeat(self, changes: Sequence[Change]) -> None:
        """Send alerts that have not ended again, to receivers that need this."""
        if self._repeats:
            for change in changes:
                self.send(change)

    def send(self, change: Change) -> None:
        """Send a change."""
        body = json.dumps(self._body(change.to_dict() | self._place)).encode()
        if self._command:
            self._run(self._command, body)
        if self._webhook:
            # Only http and https, as checked.
            request = Request(  # noqa: S310
                self._webhook, data=body, headers={"Content-Type": "application/json"}
            )
            try:
                with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                    _sent("webhook", answer.status)
            except HTTPError as error:
                _failed("webhook", f"HTTP status {error.code}", error.code)
            except (OSError, HTTPException) as error:
                # Its URL may hold a token.
                _failed("webhook", type(error).__name__)

    def _run(self, command: str, body: bytes) -> None:
        try:
            # The operator's own command line, with the pipes and quotes of a shell.
            done = subprocess.run(  # noqa: S602
                command, shell=True, input=body, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            # Its arguments may hold a secret.
            _failed("command", type(error).__name__)
        else:
            if done.returncode:
                _failed("command", f"exit code {done.returncode}", done.returncode)
            else:
                _sent("command", done.returncode)


def _sent(way: str, code: int) -> None:
    audit.emit(
        _log,
        logging.INFO,
        "alert_sent",
        "the alert %s got the alert: %s %d",
        way,
        "exit code" if way == "command" else "HTTP status",
        code,
        way=way,
        code=code,
    )


def _failed(way: str, error: str, code: int | None = None) -> None:
    audit.emit(
        _log,
        logging.ERROR,
        "alert_failed",
        "the alert %s failed: %s",
        way,
        error,
        way=way,
        error=error,
        code=code,
    )
