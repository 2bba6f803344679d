"""Keeps pages of other sites from sending requests in the name of a user who is signed in here.

A browser adds cookies and HTTP authentication to any site's form that posts to us. It also says
where the request comes from: ``Sec-Fetch-Site``, or ``Origin`` where the connection is neither TLS
nor to the machine itself. Programs send neither, and are let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import SplitResult, urlsplit

from fastapi import HTTPException, Request

from ..errors import ConfigurationError


def checked_origins(origins: Collection[str]) -> frozenset[str]:
    """Return the origins as browsers send them.

    :raises ConfigurationError: one of them no browser sends, so that its pages would be refused
    """
    if isinstance(origins, str):
        raise ConfigurationError(
            f"trusted_origins: expected a collection of origins, got the text {origins!r}"
        )
    for origin in origins:
        parts = _parts(origin)
        if parts is None or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != origin:
            raise ConfigurationError(
                "trusted_origins: expected a scheme and a host, as https://portal.example, and "
                f"nothing behind them, got {origin!r}"
            )
    return frozenset(origins)


def same_origin(trusted_origins: Collection[str]) -> Callable[[Request], None]:
    """Return a dependency that refuses origins other than the page's own and the trusted ones."""

    def refuse_other_origins(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin in trusted_origins:
            return
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            allowed = site in ("same-origin", "none")
        else:
            allowed = origin is None or _host(origin) == request.headers.get("host")
        if not allowed:
            raise HTTPException(403, "Requests from other sites' pages are not accepted here.")

    return refuse_other_origins


def _host(origin: str) -> str | None:
    parts = _parts(origin)
    return None if parts is None else parts.netloc or None


def _parts(origin: str) -> SplitResult | None:
    try:
        return urlsplit(origin)
    except (AttributeError, ValueError):
        return None
