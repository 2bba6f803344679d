"""The limits of large bodies, and that they do not delay other requests."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from fixtures.patience import PATIENCE
from fixtures.portal import client_of, portal, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.web._bulk import rows_of

HEALTH = "/system/sequence-health"
BULK = "/holding_activity_logs/bulk"
JSON = {"Content-Type": "application/json"}


def rows(count: int, **changes: Any) -> bytes:
    row = {
        "product_id": 1,
        "portfolio_fund_id": 1,
        "activity_type": "Investment",
        "activity_timestamp": "2024-05-17",
        **changes,
    }
    return json.dumps([row] * count).encode()


@pytest.mark.parametrize("synchronous", [False, True])
def test_health_answers_while_a_large_body_is_checked(
    portfolio_url: str, holding: Engine, synchronous: bool
) -> None:
    """While a large body is checked, three health requests are answered first."""
    body = rows(200_000)[:-1] + b", null]"
    arrived, order = threading.Event(), []
    with portal(
        portfolio_url, synchronous=synchronous, max_body_bytes=2**26, max_rows=10**6
    ) as app:

        async def observed(scope: Any, receive: Any, send: Any) -> None:
            async def heard() -> Any:
                message = await receive()
                if scope["path"] == BULK and not message.get("more_body"):
                    arrived.set()
                return message

            async def said(message: Any) -> None:
                if message["type"] == "http.response.start":
                    order.append((scope["path"], message["status"]))
                await send(message)

            await app(scope, heard, said)

        with serving(observed) as address, ThreadPoolExecutor() as threads:
            bulk = threads.submit(
                httpx.post, address + BULK, content=body, headers=JSON, timeout=500
            )
            assert arrived.wait(PATIENCE)
            for _ in range(3):
                httpx.get(address + HEALTH, timeout=500)
            problems = bulk.result().json()["detail"]
    assert order == [(HEALTH, 200)] * 3 + [(BULK, 422)]
    assert [problem["loc"] for problem in problems] == [["body", 200_000]]


@pytest.mark.parametrize("limits", [{"max_body_bytes": 1000}, {"max_rows": 5}])
async def test_too_much_is_a_413_that_names_the_limit(
    portfolio_url: str, holding: Engine, limits: dict[str, int]
) -> None:
    """A body at a limit is saved, and a larger one is a 413 that names the limit."""
    with portal(portfolio_url, **limits) as app:
        async with client_of(app) as client:
            for count, status in ((5, 200), (10, 413)):
                answer = await client.post(BULK, content=rows(count), headers=JSON)
                assert answer.status_code == status
    assert ("1,000 bytes" if "max_body_bytes" in limits else "5 rows") in answer.json()["detail"]


async def test_a_length_that_is_too_long_is_refused_unread(portfolio_url: str) -> None:
    """A body whose declared length is too long is refused without being read."""

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with portal(portfolio_url, max_body_bytes=1000) as app:
        async with client_of(app) as client:
            for length in ("1001", "9" * 4400):
                headers = {**JSON, "Content-Length": length}
                answer = await client.post(BULK, content=body(), headers=headers)
                assert answer.status_code == 413


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_refuses_a_long_body_either_way(portfolio_url: str, chunked: bool) -> None:
    """With its length or in chunks without one, a long body is a 413 on a real server."""
    sent = []

    def chunks() -> Iterator[bytes]:
        for _ in range(2_000):
            sent.append(1)
            yield b"[" + b" " * 65_535

    with portal(portfolio_url, max_body_bytes=100_000) as app, serving(app) as address:
        content = chunks() if chunked else b" " * 10_000_000
        answer = httpx.post(address + BULK, content=content, headers=JSON, timeout=PATIENCE)
    assert answer.status_code == 413
    assert answer.headers["Connection"] == "close"
    assert len(sent) < 2_000


async def test_who_is_not_let_in_sends_no_body(portfolio_url: str) -> None:
    """Authorisation is checked before the size, so an unknown user learns no limit."""

    def nobody() -> None:
        raise HTTPException(403, "no")

    with portal(portfolio_url, nobody, max_body_bytes=1) as app:
        async with client_of(app) as client:
            assert (await client.post(BULK, content=b"[  ]", headers=JSON)).status_code == 403


@pytest.mark.parametrize("limits", [{"max_body_bytes": 0}, {"max_rows": True}, {"max_rows": "5"}])
def test_a_limit_is_a_number(portfolio_url: str, limits: dict[str, Any]) -> None:
    """A limit that is no whole number from 1 up is refused by its name."""
    with (
        pytest.raises(ConfigurationError, match=rf"{next(iter(limits))}: expected a whole number"),
        portal(portfolio_url, **limits),
    ):
        pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(VALUES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), st.booleans())
def test_an_array_is_read_as_the_standard_library_reads_it(
    value: Any, encoding: str, spaced: bool
) -> None:
    """An array read row by row equals that of json.loads, in every encoding of JSON."""
    text = json.dumps(value, ensure_ascii=True, indent="\t" if spaced else None)
    body = f" \r\n{text}\n".encode(encoding) if spaced else text.encode(encoding)
    if isinstance(value, list):
        assert rows_of(body, 1_000_000) == json.loads(body)
    else:
        with pytest.raises(ValueError, match="expected an array of rows"):
            rows_of(body, 1_000_000)


@settings(derandomize=True, deadline=None, database=None, max_examples=500)
@given(st.text(alphabet='[]{},:"1 \n', max_size=12))
def test_what_is_no_json_is_refused_by_both(text: str) -> None:
    """Reading row by row refuses exactly what json.loads refuses."""
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if isinstance(expected, list):
        assert rows_of(text.encode(), 100) == expected
    else:
        with pytest.raises(ValueError, match=r"is not JSON|expected an array"):
            rows_of(text.encode(), 100)
