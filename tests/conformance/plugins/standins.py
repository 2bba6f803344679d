"""Registrations that take this package's place in a conformance run, to test the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sqlalchemy import event


class Standin:
    """Listens like a registration, and reports one row by *writer* for each flush."""

    def __init__(self, target: Any, writer: str) -> None:
        self._target = target
        self._writer = writer
        self._callbacks: list[Callable[[Any], object]] = []
        event.listen(target, "after_flush", self.after_flush)

    def on_flush(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def unregister(self) -> None:
        event.remove(self._target, "after_flush", self.after_flush)

    def after_flush(self, session: Any, flush_context: Any) -> None:
        entry = SimpleNamespace(writer=self._writer, rows=1, reason="a stand-in")
        for callback in self._callbacks:
            callback(SimpleNamespace(entries=(entry,)))


class Unfaithful(Standin):
    """Fails every flush that updates an object."""

    def after_flush(self, session: Any, flush_context: Any) -> None:
        super().after_flush(session, flush_context)
        if session.dirty:
            raise RuntimeError("an unfaithful registration refuses to update")


class Deadly(Standin):
    """Ends the process in the first flush that updates an object."""

    def after_flush(self, session: Any, flush_context: Any) -> None:
        super().after_flush(session, flush_context)
        if session.dirty:
            os._exit(1)


def falls_back(target: Any, *, copy_min_rows: int) -> Standin:
    """Breaks no test, because SQLAlchemy writes everything."""
    return Standin(target, "orm")


def faithful(target: Any, *, copy_min_rows: int) -> Standin:
    """Breaks no test, and reports rows by COPY."""
    return Standin(target, "copy")


def unfaithful(target: Any, *, copy_min_rows: int) -> Standin:
    """Reports rows by COPY, and fails every flush that changes an object."""
    return Unfaithful(target, "copy")


def deadly(target: Any, *, copy_min_rows: int) -> Standin:
    """Reports rows by COPY, and ends the process in the first flush that changes an object."""
    return Deadly(target, "copy")
