"""The health of sequences as Prometheus metrics."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, text

from sqla_seqreserve.health import check_sequences
from sqla_seqreserve.metrics import HealthMetrics


def test_a_report_becomes_gauges(engine: Engine) -> None:
    """Health, gap and share of each sequence are exposed, and removed when a report no longer
    contains it.
    """
    registry = CollectorRegistry()
    metrics = HealthMetrics(registry)
    labels = {
        "database": str(engine.url.database),
        "schema": "public",
        "table": "t",
        "column": "id",
        "sequence": "t_id_seq",
    }
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial)"))
        connection.execute(text("INSERT INTO t VALUES (30)"))
        metrics.observe(check_sequences(connection, None))
        assert registry.get_sample_value("seqreserve_sequence_healthy", labels) == 0
        assert registry.get_sample_value("seqreserve_sequence_gap", labels) == 30
        connection.execute(text("DROP TABLE t"))
        metrics.observe(check_sequences(connection, None))
    assert b"t_id_seq" not in generate_latest(registry)
    metrics.failed()
    assert registry.get_sample_value("seqreserve_check_failures_total") == 1


def test_databases_of_one_name_hide_nothing(engine: Engine) -> None:
    """If two databases have the same labels, as those of one name on two servers, the gauges show
    the worse one.
    """
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial)"))
        good = check_sequences(connection, None)
        connection.execute(text("INSERT INTO t VALUES (30)"))
        bad = check_sequences(connection, None)
    for both in ((*bad.sequences, *good.sequences), (*good.sequences, *bad.sequences)):
        registry = CollectorRegistry()
        HealthMetrics(registry).observe(replace(good, sequences=both))
        (gap,) = (
            sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == "seqreserve_sequence_gap"
        )
        assert gap == 30
