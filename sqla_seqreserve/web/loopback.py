"""The portal on this machine, for a demonstration: run by ``sqla-seqreserve demo --serve`` (extra
``[portal]``).
"""

from __future__ import annotations

from fastapi import Depends, FastAPI
from sqlalchemy import URL

from ..registration import register
from ._token import TokenGate
from .app import bare_app, dependency_of, engine_of, factory_on
from .portfolio import portfolio_router

__all__ = ["loopback_app"]


def loopback_app(url: URL, token: str) -> FastAPI:
    """Return the application on the portal's database at ``url``, for users who know the token."""
    engine = engine_of(url)
    sessions = factory_on(engine)
    register(sessions, reserve="always")
    app = bare_app(engine.dispose)
    gate = TokenGate(token)
    app.include_router(portfolio_router(dependency_of(sessions), authorise=gate.authorise))
    gate.add_to(app)

    @app.get("/openapi.json", dependencies=[Depends(gate.authorise)], include_in_schema=False)
    def openapi() -> dict[str, object]:
        return app.openapi()

    return app
