"""Telling the outside: a shell's command that gets JSON on its standard input, a webhook that gets
it posted.
"""

from __future__ import annotations

import json
import logging
import subprocess
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from sqla_seqreserve import _audit as audit
from sqla_seqreserve.errors import ConfigurationError

from ._watching import Change

__all__ = ["Alerts"]

_log = logging.getLogger("sqla_seqreserve.watch")

_SECONDS = 30


class Alerts:
    """Sends a change by every way configured; one that fails is logged, and ends no watch."""

    def __init__(self, *, command: str | None, webhook: str | None) -> None:
        self._command = command
        if webhook and urlsplit(webhook).scheme not in ("http", "https"):
            raise ConfigurationError("--alert-webhook: expected a URL that begins with http(s)://")
        self._webhook = webhook

    def send(self, change: Change) -> None:
        """Tell of a change."""
        body = json.dumps(change.to_dict()).encode()
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
