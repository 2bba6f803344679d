#!/usr/bin/env bash
# opentelemetry-instrumentation-sqlalchemy 0.66b1 with SQLAlchemy 2.1.9: instrument() returns as ever and instruments nothing.
#
# The package declares "sqlalchemy >= 1.0.0, < 2.1.0". The conflict is one line in the log at ERROR, no exception: an
# application that upgrades SQLAlchemy loses its database spans, and a test that only looks for errors passes.
# Output seen:  2.0.58: 1 span / 2.1.9: 0 spans
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
seen=()
for line in 2.0.58 2.1.9; do
  python3 -m venv "$work/$line"
  "$work/$line/bin/pip" install -qq --disable-pip-version-check "sqlalchemy==$line" \
    opentelemetry-instrumentation-sqlalchemy==0.66b1 opentelemetry-sdk
  seen+=("$line: $("$work/$line/bin/python" - 2>/dev/null <<'P'
import sqlalchemy
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter)); trace.set_tracer_provider(provider)
SQLAlchemyInstrumentor().instrument()
with sqlalchemy.create_engine("sqlite://").connect() as c: c.execute(sqlalchemy.text("SELECT 1"))
found = [s for s in exporter.get_finished_spans() if "SELECT" in s.name]
print(f"{len(found)} span" + ("" if len(found) == 1 else "s"))
P
)")
done
found="${seen[0]} / ${seen[1]}"
echo "$found"; [[ $found == "2.0.58: 1 span / 2.1.9: 0 spans" ]]
