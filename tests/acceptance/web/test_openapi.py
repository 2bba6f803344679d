"""The application against its own OpenAPI document, with whatever input schemathesis thinks of."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

OPERATIONS = [
    ("/holding_activity_logs/bulk", "POST"),
    ("/system/sequence-health", "GET"),
    ("/system/repair-sequences", "POST"),
    ("/system/metrics", "GET"),
    ("/system/sequences", "GET"),
    ("/system/sequences/state", "GET"),
    ("/system/sequences/may-repair", "GET"),
]


# Not through schemathesis' own plugin, which pytest 9 fails on.
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_input_is_a_server_error(app: FastAPI, holding: Engine, path: str, method: str) -> None:
    """No input, valid or not, is a 500, and every answer is one that the document describes."""
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=40 if method == "POST" else 5,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    def ask(case: schemathesis.Case) -> None:
        answer = case.call()
        statuses[answer.status_code] += 1
        case.validate_response(
            answer,
            checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
        )

    ask()
    print(dict(statuses))
    assert statuses[422 if path.endswith("bulk") else 204 if "may" in path else 200]
