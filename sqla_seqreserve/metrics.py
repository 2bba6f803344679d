"""Prometheus metrics (extra ``[metrics]``).

::

    metrics = HealthMetrics()                            # on prometheus_client's own registry
    metrics.observe(check_sequences(session, Base))      # after each check

=========================================== ======= ==============================================
metric                                      type    labels and meaning
=========================================== ======= ==============================================
``seqreserve_sequence_healthy``             gauge   table, column, sequence: 1 ahead of its table
``seqreserve_sequence_gap``                 gauge   the same: ids by which it is behind
``seqreserve_sequence_used_ratio``          gauge   the same: share used of what it can hand out
``seqreserve_check_timestamp_seconds``      gauge   when the last check succeeded
``seqreserve_check_failures_total``         counter checks that the database did not answer
=========================================== ======= ==============================================
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, start_http_server

from .health import HealthReport

__all__ = ["HealthMetrics", "serve_metrics"]

_LABELS = ("table", "column", "sequence")


class HealthMetrics:
    """The health of sequences as gauges; what a report no longer lists is no longer exposed."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
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
        """Expose a report."""
        for gauge in (self._healthy, self._gap, self._used):
            gauge.clear()
        for entry in report.sequences:
            labels = (entry.table or "", entry.column or "", entry.sequence or "")
            self._healthy.labels(*labels).set(entry.is_healthy)
            self._gap.labels(*labels).set(entry.gap)
            if entry.used_fraction is not None:
                self._used.labels(*labels).set(entry.used_fraction)
        self._checked.set(report.checked_at.timestamp())

    def failed(self) -> None:
        """Count a check that could not be made."""
        self._failures.inc()


def serve_metrics(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve the registry's metrics on this port of 127.0.0.1, in a thread of its own, until the
    process ends.
    """
    start_http_server(port, addr="127.0.0.1", registry=registry)
