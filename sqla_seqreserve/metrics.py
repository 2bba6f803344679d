"""Prometheus metrics (extra ``[metrics]``): what the library writes, and how its sequences are.

::

    LibraryMetrics()                                     # once, where the application starts

    metrics = HealthMetrics()                            # on prometheus_client's own registry
    metrics.observe(check_sequences(session, Base))      # after each check

=========================================== ========= ============================================
metric                                      type      labels and meaning
=========================================== ========= ============================================
``seqreserve_ids_reserved_total``           counter   model: ids taken from its sequence
``seqreserve_rows_total``                   counter   model, kind, writer: rows by copy, insert or
                                                      orm; kind: insert, update, delete, link,
                                                      unlink (model: the link table)
``seqreserve_fallback_rows_total``          counter   model, kind, reason: those that could not be
                                                      written by COPY, or travel together
``seqreserve_flush_seconds``                histogram time that a flush spent writing its rows
``seqreserve_errors_total``                 counter   error: flushes, bulk inserts and
                                                      reservations that failed, by exception
``seqreserve_sequence_healthy``             gauge     database, schema, table, column, sequence:
                                                      1 ahead of its table
``seqreserve_sequence_gap``                 gauge     the same: ids by which it is behind
``seqreserve_sequence_used_ratio``          gauge     the same: share used of what it can hand out
``seqreserve_sequence_ids_left``            gauge     the same: ids that are left
``seqreserve_sequence_seconds_left``        gauge     the same: seconds until the last one, where a
                                                      rate was seen
``seqreserve_check_timestamp_seconds``      gauge     when the last check succeeded
``seqreserve_check_failures_total``         counter   checks that the database did not answer
=========================================== ========= ============================================

Rows are counted when their flush has succeeded, whether or not its transaction commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from . import _audit as audit
from .errors import ConfigurationError
from .health import HealthReport

__all__ = ["HealthMetrics", "LibraryMetrics", "health_text", "serve_metrics"]

_LABELS = ("database", "schema", "table", "column", "sequence")


class HealthMetrics:
    """The health of sequences as gauges; sequences that a report no longer lists are no longer
    exposed.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        with _once("HealthMetrics"):
            self._add_to(registry)

    def _add_to(self, registry: CollectorRegistry) -> None:
        self._healthy = Gauge(
            "seqreserve_sequence_healthy",
            "1 if the sequence is ahead of its table",
            _LABELS,
            registry=registry,
        )
        self._gap = Gauge(
            "seqreserve_sequence_gap",
            "Ids by which the sequence is behind its table",
            _LABELS,
            registry=registry,
        )
        self._used = Gauge(
            "seqreserve_sequence_used_ratio",
            "Share used of the ids that the sequence and its column can hold",
            _LABELS,
            registry=registry,
        )
        self._left = Gauge(
            "seqreserve_sequence_ids_left",
            "Ids that the sequence can still hand out and its column hold",
            _LABELS,
            registry=registry,
        )
        self._seconds_left = Gauge(
            "seqreserve_sequence_seconds_left",
            "Seconds until the last id at the rate seen, if one was seen",
            _LABELS,
            registry=registry,
        )
        self._checked = Gauge(
            "seqreserve_check_timestamp_seconds",
            "When the last check succeeded, in seconds since the epoch",
            registry=registry,
        )
        self._failures = Counter(
            "seqreserve_check_failures",
            "Checks that the database did not answer",
            registry=registry,
        )

    def observe(self, report: HealthReport) -> None:
        """Expose a report as the current values."""
        for gauge in (self._healthy, self._gap, self._used, self._left, self._seconds_left):
            gauge.clear()
        # Databases of one name, on several servers, share their labels: the worst entry counts.
        for entry in sorted(report.sequences, key=lambda entry: entry.worse, reverse=True):
            names = (entry.database, entry.schema, entry.table, entry.column, entry.sequence)
            labels = [name or "" for name in names]
            self._healthy.labels(*labels).set(entry.is_healthy)
            self._gap.labels(*labels).set(entry.gap)
            if entry.used_fraction is not None:
                self._used.labels(*labels).set(entry.used_fraction)
            if entry.ids_left is not None:
                self._left.labels(*labels).set(entry.ids_left)
            if entry.ends_at is not None:
                seconds = (entry.ends_at - report.checked_at).total_seconds()
                self._seconds_left.labels(*labels).set(seconds)
        self._checked.set(report.checked_at.timestamp())

    def failed(self) -> None:
        """Count a check that failed."""
        self._failures.inc()


class LibraryMetrics:
    """Counts what this process reserves and writes from now on, through every registration and
    every function.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        with _once("LibraryMetrics"):
            self._add_to(registry)
        self._end = audit.observe(self._observe)

    def _add_to(self, registry: CollectorRegistry) -> None:
        self._reserved = Counter(
            "seqreserve_ids_reserved", "Ids taken from sequences", ["model"], registry=registry
        )
        self._rows = Counter(
            "seqreserve_rows", "Rows written", ["model", "kind", "writer"], registry=registry
        )
        self._fallbacks = Counter(
            "seqreserve_fallback_rows",
            "Rows that could not be written by COPY, or travel together",
            ["model", "kind", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "seqreserve_flush_seconds",
            "Time that a flush spent writing its rows",
            registry=registry,
        )
        self._errors = Counter(
            "seqreserve_errors",
            "Flushes, bulk inserts and reservations that failed",
            ["error"],
            registry=registry,
        )

    def close(self) -> None:
        """Stop counting, and remove the metrics from the registry."""
        self._end()
        for metric in (self._reserved, self._rows, self._fallbacks, self._seconds, self._errors):
            self._registry.unregister(metric)

    def _observe(self, event: str, fields: Mapping[str, Any]) -> None:
        if event == "ids_reserved":
            self._reserved.labels(fields["model"]).inc(fields["count"])
        elif event in ("rows_written", "fallback"):
            of = fields["model"], fields["kind"]
            self._rows.labels(*of, fields["writer"]).inc(fields["rows"])
            if event == "fallback":
                self._fallbacks.labels(*of, fields["reason"]).inc(fields["rows"])
        elif event == "flushed":
            self._seconds.observe(fields["seconds"])
        elif event == "failed":
            self._errors.labels(fields["error"]).inc()


@contextmanager
def _once(name: str) -> Iterator[None]:
    """Explain the error that a second instance on the same registry causes; Prometheus' own message
    only names a timeseries.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"{name}(): this registry has these metrics already ({error}). One serves the whole "
            "process: keep the first, or give another registry"
        ) from error


def health_text(report: HealthReport) -> str:
    """Return a report's metrics as text, for a file that a textfile collector reads."""
    registry = CollectorRegistry()
    HealthMetrics(registry).observe(report)
    return generate_latest(registry).decode()


def serve_metrics(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve the registry's metrics on this port of 127.0.0.1, in a thread of its own, until the
    process ends.
    """
    start_http_server(port, addr="127.0.0.1", registry=registry)
