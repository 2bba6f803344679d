"""Telling the outside: a command that gets JSON on its standard input, a webhook that gets it
posted.
"""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
from http.client import HTTPException
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
        self._command = shlex.split(command) if command else None
        if webhook and urlsplit(webhook).scheme not in ("http", "https"):
            raise ConfigurationError("--alert-webhook: expected a URL that begins with http(s)://")
        self._webhook = webhook

    def send(self, change: Change) -> None:
        """Tell of a change."""
        body = json.dumps(change.to_dict()).encode()
        if self._command:
            try:
                # The operator's own command, without a shell.
                subprocess.run(self._command, input=body, timeout=_SECONDS, check=True)  # noqa: S603
            except (OSError, subprocess.SubprocessError) as error:
                # Its arguments may hold a secret.
                _failed("command", error)
        if self._webhook:
            # Only http and https, as checked.
            request = Request(  # noqa: S310
                self._webhook, data=body, headers={"Content-Type": "application/json"}
            )
            try:
                with urlopen(request, timeout=_SECONDS):  # noqa: S310
                    pass
            except (OSError, HTTPException) as error:
                # Its URL may hold a token.
                _failed("webhook", error)


def _failed(way: str, error: Exception) -> None:
    name = type(error).__name__
    audit.emit(
        _log,
        logging.ERROR,
        "alert_failed",
        "the alert %s failed: %s",
        way,
        name,
        way=way,
        error=name,
    )
