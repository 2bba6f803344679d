"""Keeps pages of other sites from sending requests in the name of a user who is signed in here.

A browser adds cookies and HTTP authentication to any site's form that posts to us. It also says
where the request comes from: ``Sec-Fetch-Site``, or ``Origin`` where the connection is neither TLS
nor to the machine itself. Programs send neither, and are let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from fastapi import HTTPException, Request


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
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
