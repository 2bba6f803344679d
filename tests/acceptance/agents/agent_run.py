"""Saves below one agent, in a process of its own, for it patches what it finds; prints as JSON what
the agent recorded of each way of saving. Nothing leaves the process: each agent has a recorder here
in the place of what would send.

usage: agent_run.py AGENT DRIVER URL
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Written = list[tuple[str, str]]
"""What an agent recorded of statements that write: the statement, and the name of its parent."""

WRITES = re.compile(r"(INSERT INTO|COPY) \"?(\w+)")


def writes(statement: str) -> str | None:
    found = WRITES.search(statement)
    return f"{found[1]} {found[2]}" if found and "LOCK TABLE" not in statement else None


def by_parents(spans: list[tuple[Any, Any, str]]) -> Written:
    """Of spans as (id, parent's id, text): those that write, with their parents."""
    texts = {number: text for number, _, text in spans}
    found = []
    for _, parent, text in spans:
        written = writes(text)
        if written is not None:
            above = texts.get(parent, "nobody")
            found.append((written, writes(above) or above.split(" ")[0]))
    return found


def ddtrace() -> Callable[[], Any]:
    os.environ.update(
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_AGENT_URL="http://127.0.0.1:9",
        DD_TRACE_STARTUP_LOGS="false",
    )
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    ended: list[Any] = []

    class Recorder(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            ended.extend(trace)

    tracer.configure(trace_processors=[Recorder()])
    ddtrace.patch(psycopg=True, asyncpg=True, sqlalchemy=True)

    @contextmanager
    def request() -> Iterator[Written]:
        written: Written = []
        ended.clear()
        with tracer.trace("request", resource="request"):
            yield written
        written += by_parents([(span.span_id, span.parent_id, span.resource) for span in ended])

    return request


def newrelic() -> Callable[[], Any]:
    os.environ["NEW_RELIC_DEVELOPER_MODE"] = "true"
    import newrelic.agent
    from newrelic.api.database_trace import DatabaseTrace

    settings = newrelic.agent.global_settings()
    settings.license_key = "0" * 40
    settings.app_name = "acceptance"
    settings.developer_mode = True
    settings.monitor_mode = False
    newrelic.agent.initialize()
    application = newrelic.agent.register_application(timeout=10.0)

    ended: list[tuple[str, str]] = []
    finish = DatabaseTrace.finalize_data

    def finalize_data(self: Any, transaction: Any, *args: Any, **kwargs: Any) -> None:
        statement = writes(str(self.sql))
        if statement is not None:
            above = getattr(self.parent, "sql", None) or getattr(self.parent, "name", "request")
            ended.append((statement, writes(str(above)) or "request"))
        finish(self, transaction, *args, **kwargs)

    DatabaseTrace.finalize_data = finalize_data

    @contextmanager
    def request() -> Iterator[Written]:
        written: Written = []
        ended.clear()
        with newrelic.agent.BackgroundTask(application, name="request"):
            yield written
        written += ended

    return request


def elasticapm() -> Callable[[], Any]:
    import elasticapm
    from elasticapm.transport.base import Transport

    ended: list[Any] = []

    class Recorder(Transport):  # type: ignore[misc]  # without types
        def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
            if event_type == "span":
                ended.append(data)

        def start_thread(self, *_: Any, **__: Any) -> None: ...

        def close(self) -> None: ...

    globals()["Recorder"] = Recorder
    client = elasticapm.Client(
        service_name="acceptance",
        transport_class=f"{__name__}.Recorder",
        central_config=False,
        cloud_provider="none",
        metrics_interval="0s",
        transaction_max_spans=10_000,
        span_compression_enabled=False,
    )
    elasticapm.instrument()

    @contextmanager
    def request() -> Iterator[Written]:
        written: Written = []
        ended.clear()
        transaction = client.begin_transaction("request")
        yield written
        client.end_transaction("request", "success")
        spans = [(transaction.id, None, "request")]
        for data in ended:
            text = data["context"].get("db", {}).get("statement") or data["name"]
            spans.append((data["id"], data["parent_id"], text))
        written += by_parents(spans)

    return request


def sentry() -> Callable[[], Any]:
    import sentry_sdk
    from sentry_sdk.integrations.sqlalchemy import SqlalchemyIntegration
    from sentry_sdk.transport import Transport

    sent: list[Any] = []

    class Recorder(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.extend(item.payload.json for item in envelope.items if item.type == "transaction")

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Recorder,
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
        default_integrations=False,
        integrations=[SqlalchemyIntegration()],
    )

    @contextmanager
    def request() -> Iterator[Written]:
        written: Written = []
        sent.clear()
        with sentry_sdk.start_transaction(name="request"):
            yield written
        [transaction] = sent
        spans = [
            (span["span_id"], span["parent_span_id"], span["description"])
            for span in transaction["spans"]
        ]
        written += by_parents([(transaction["contexts"]["trace"]["span_id"], 0, "request"), *spans])

    return request


def otel(name: str) -> Callable[[], Any]:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    recorder = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(recorder))
    trace.set_tracer_provider(provider)
    instrumentor: Any
    if name == "sqlalchemy":
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        instrumentor = SQLAlchemyInstrumentor()
    elif name == "psycopg":
        from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

        instrumentor = PsycopgInstrumentor()
    elif name == "psycopg2":
        from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor

        instrumentor = Psycopg2Instrumentor()
    else:
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        instrumentor = AsyncPGInstrumentor()
    # psycopg2 may be there under the name of its binary wheel.
    instrumentor.instrument(skip_dep_check=True)
    tracer = trace.get_tracer("acceptance")

    @contextmanager
    def request() -> Iterator[Written]:
        written: Written = []
        recorder.clear()
        with tracer.start_as_current_span("request"):
            yield written
        spans = []
        for span in recorder.get_finished_spans():
            assert span.context is not None
            attributes = span.attributes or {}
            text = attributes.get("db.statement") or attributes.get("db.query.text") or span.name
            parent = None if span.parent is None else span.parent.span_id
            spans.append((span.context.span_id, parent, str(text)))
        written += by_parents(spans)

    return request


AGENTS: dict[str, Callable[[], Callable[[], Any]]] = {
    "ddtrace": ddtrace,
    "newrelic": newrelic,
    "elasticapm": elasticapm,
    "sentry": sentry,
    "otel_sqlalchemy": lambda: otel("sqlalchemy"),
    "otel_psycopg": lambda: otel("psycopg"),
    "otel_psycopg2": lambda: otel("psycopg2"),
    "otel_asyncpg": lambda: otel("asyncpg"),
}


def main(agent: str, driver: str, url: str) -> Any:
    request = AGENTS[agent]()
    # Imported now: some agents patch only what is imported after them.
    from agent_saves import save_each_way

    return save_each_way(driver, url, request)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
    sys.stdout.flush()
    # What an agent would still send when the process ends is not sent.
    os._exit(0)
