"""A secret that gives access to everybody who knows it, for an application on this machine alone.

Other users of the machine reach the loopback interface too, and so does every page in the browser.
The URL with the token, ``/?token=...``, exchanges it for a cookie; programs send it as
``Authorization: Bearer``.
"""

from __future__ import annotations

import secrets

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse


class TokenGate:
    """The dependency :meth:`authorise`, and the path that sets the cookie."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def authorise(self, request: Request) -> None:
        """Refuse a request that has the token neither as a bearer token nor in the cookie."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        offered = bearer if scheme.lower() == "bearer" else ""
        if not self._is_token(offered or request.cookies.get(_cookie_name(request), "")):
            raise HTTPException(
                401,
                "Open the URL that sqla-seqreserve serve printed, with its token.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def add_to(self, app: FastAPI) -> None:
        """Let the application's ``/`` accept the token, and redirect to the page."""

        @app.get("/", include_in_schema=False)
        def enter(request: Request, token: str = "") -> RedirectResponse:
            if not self._is_token(token):
                self.authorise(request)
            # Relative, so that it works under any prefix.
            response = RedirectResponse("system/sequences", status_code=303)
            if token:
                response.set_cookie(_cookie_name(request), token, httponly=True, samesite="strict")
            return response

    def _is_token(self, offered: str) -> bool:
        return secrets.compare_digest(offered.encode(), self._token)


def _cookie_name(request: Request) -> str:
    # A cookie is sent to every port of a host.
    return f"sqla_seqreserve_{request.url.port}"
