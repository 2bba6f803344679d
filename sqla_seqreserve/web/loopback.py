"""The portal for a look on this machine: what ``sqla-seqreserve serve`` runs.

Other users of the machine reach the loopback interface too, and so does every page in the browser.
So whoever comes in must know the token: it is in the URL that the command prints, which exchanges
it for a cookie; programs send it as ``Authorization: Bearer``.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from ..registration import register
from .portfolio import portfolio_router

__all__ = ["loopback_app"]


def loopback_app(url: URL, token: str) -> FastAPI:
    """Return the application on the database at ``url``."""
    engine = create_async_engine(url, pool_pre_ping=True)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    register(sessions, reserve="always")

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    def knows_token(offered: str) -> bool:
        return secrets.compare_digest(offered.encode(), token.encode())

    def cookie_name(request: Request) -> str:
        # Cookies do not tell the ports of a host apart.
        return f"sqla_seqreserve_{request.url.port}"

    def authorise(request: Request) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        offered = bearer if scheme.lower() == "bearer" else ""
        if not knows_token(offered or request.cookies.get(cookie_name(request), "")):
            raise HTTPException(
                401,
                "Open the URL that sqla-seqreserve serve printed, with its token.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    # FastAPI's own pages of documentation load their scripts from elsewhere.
    app = FastAPI(
        title="sqla-seqreserve",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.include_router(portfolio_router(session, authorise=authorise))

    @app.get("/")
    def enter(request: Request, token: str = "") -> RedirectResponse:
        if not knows_token(token):
            authorise(request)
        response = RedirectResponse("/system/sequences", status_code=303)
        if token:
            response.set_cookie(cookie_name(request), token, httponly=True, samesite="strict")
        return response

    @app.get("/openapi.json", dependencies=[Depends(authorise)])
    def openapi() -> dict[str, object]:
        return app.openapi()

    return app
