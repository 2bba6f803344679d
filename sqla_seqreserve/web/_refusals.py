"""The answers to refused requests: the reason, and never the SQL.

=== ================================================================================================
413 it is larger than the application allows
422 the input is wrong; ``detail`` lists every problem as FastAPI does: ``loc``, ``msg``, ``type``
409 it conflicts with stored rows (SQLSTATE class 23), or with a transaction under way
503 the database cannot be reached, or is out of resources: try again
500 the database refused what no input can cause, such as a missing privilege or table; or the
    application gave the router what it cannot use
=== ================================================================================================

The log has the whole error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .._sqlstate import sqlstate
from ..errors import (
    ConfigurationError,
    InvalidRowsError,
    LockTimeoutError,
    SequenceDriftError,
    SequenceExhaustedError,
)

_log = logging.getLogger("sqla_seqreserve.web")

_CONFLICTS = {
    "23502": "A value that must be there is missing.",
    "23503": "A row that is referred to does not exist, or is still referred to.",
    "23505": "A value that must be unique is there already.",
    "40001": "Another transaction changed the same rows: try again.",
    "40P01": "Another transaction waited for this one: try again.",
    "55P03": "Another transaction holds a lock that this one needs: try again.",
}
_UNREACHABLE = ("08", "53", "57")
_OUR_CONFLICTS = (LockTimeoutError, SequenceDriftError, SequenceExhaustedError)


def _ascii(content: Any) -> str:
    """JSON in ASCII: a caller's text may contain half a surrogate pair, which is no UTF-8."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


class SafeRoute(APIRoute):
    """A route that answers the database's refusals itself, whatever the application does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_safely(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return problems_response(
                    (item["loc"], item["msg"], item["type"]) for item in error.errors()
                )
            except InvalidRowsError as error:
                # There may be very many problems: a thread lets other requests go on.
                return await run_in_threadpool(_rows_refused, error)
            except (SQLAlchemyError, OSError) as error:
                # OSError: asyncpg does not wrap errors of the network.
                return _refusal(error)

        return handle_safely


def problems_response(problems: Iterable[tuple[Iterable[str | int], str, str]]) -> Response:
    """Return the 422 that lists the problems: where each one is, what it is, and its type."""
    detail = (
        # One at a time: the encoder lets no other thread run before it is done.
        _ascii({"loc": list(where), "msg": text, "type": kind})
        for where, text, kind in problems
    )
    content = f'{{"detail":[{",".join(detail)}]}}'
    return Response(content, status_code=422, media_type="application/json")


def _rows_refused(error: InvalidRowsError) -> Response:
    return problems_response(
        (
            ("body", problem.index, *filter(None, [problem.attribute])),
            problem.problem,
            "value_error",
        )
        for problem in error.problems
    )


def _refusal(error: SQLAlchemyError | OSError) -> Response:
    status, detail = _verdict(error)
    _log.log(
        logging.ERROR if status >= 500 else logging.WARNING,
        "a request was refused with status %d",
        status,
        exc_info=error,
    )
    headers = {"Retry-After": "5"} if status == 503 else None
    return Response(
        _ascii({"detail": detail}),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def _verdict(error: SQLAlchemyError | OSError) -> tuple[int, str]:
    if isinstance(error, _OUR_CONFLICTS):
        return 409, str(error)
    if isinstance(error, ConfigurationError):
        return 500, "The application is not set up rightly; the server's log says why."
    if isinstance(error, PoolTimeoutError | OSError):
        return 503, "The database cannot be reached at present."
    if isinstance(error, DBAPIError):
        state = sqlstate(error) or ""
        if state in _CONFLICTS:
            return 409, _CONFLICTS[state]
        if state.startswith("23"):
            return 409, "The request conflicts with what is stored."
        if state.startswith(_UNREACHABLE) or error.connection_invalidated or not state:
            return 503, "The database cannot be reached at present."
        if state.startswith("22"):
            return 422, "A value is not one that the database can store."
    return 500, "The database refused the request; the server's log says why."
