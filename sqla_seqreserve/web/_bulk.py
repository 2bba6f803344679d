"""Reads a large JSON array within limits and without delaying other requests.

The body is counted as it arrives, so that the limit also holds for one without a declared length.
It is parsed row by row and in a thread: parsing it in one call would block every other thread.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException, Request

from ..errors import ConfigurationError

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SPACE = re.compile(r"[ \t\n\r]*")
_decode_row = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """The limits of a request, and the threads that parse it.

    There are two threads, for this purpose alone: if many large bodies wait, other requests do not.
    """

    body_bytes: int
    rows: int
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="sqla-seqreserve-bulk")
    )

    def __post_init__(self) -> None:
        for name, value in (("max_body_bytes", self.body_bytes), ("max_rows", self.rows)):
            if type(value) is not int or value < 1:
                raise ConfigurationError(
                    f"{name}: expected a whole number from 1 up, got {value!r}"
                )

    async def body(self, request: Request) -> bytes:
        """Return the request's body.

        :raises HTTPException: 413, it is too long; if its declared length says so, it is not read
        """
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self.body_bytes):
            raise self._too_long()
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.body_bytes:
                raise self._too_long()
        return bytes(body)

    async def aside(self, work: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
        """Do the work in one of these threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **options))

    def _too_long(self) -> HTTPException:
        # The rest of the body is not read, so the connection cannot be used again.
        return HTTPException(
            413,
            f"The body may have {self.body_bytes:,} bytes: send the rows in several requests.",
            headers={"Connection": "close"},
        )


def rows_of(body: bytes, most: int) -> list[Any]:
    """Return the items of a JSON array as :func:`json.loads` does.

    :raises ValueError: it is none
    :raises HTTPException: 413, it has more than ``most`` items
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        at = _past_space(text, 0)
        if text[at : at + 1] != "[":
            json.loads(text)
            raise _NoArrayError
        rows: list[Any] = []
        at = _past_space(text, at + 1)
        if text[at : at + 1] == "]":
            at += 1
        else:
            while True:
                row, at = _decode_row(text, at)
                rows.append(row)
                if len(rows) > most:
                    raise HTTPException(
                        413,
                        f"The body may have {most:,} rows: send them in several requests.",
                    )
                at = _past_space(text, at)
                separator, at = text[at : at + 1], at + 1
                if separator == "]":
                    break
                if separator != ",":
                    raise ValueError("expected , or ]")
                at = _past_space(text, at)
        if _past_space(text, at) != len(text):
            raise ValueError("something follows the array")
    except _NoArrayError:
        raise ValueError("expected an array of rows") from None
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON that can be read") from error
    return rows


class _NoArrayError(Exception):
    """JSON of another kind."""


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
