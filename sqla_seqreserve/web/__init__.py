"""Sequence health and repair over HTTP, with a page to look at (extra ``[web]``).

In an application on FastAPI::

    async def session() -> AsyncIterator[AsyncSession]:  # or a plain def that yields a Session
        async with sessions() as session:
            yield session

    app.include_router(system_router(session, Base, authorise=signed_in, authorise_repair=admin))

====== =========================== =================================================================
GET    /system/sequence-health     the check, as JSON
POST   /system/repair-sequences    the repair; with ``?dry_run=true`` what it would do
GET    /system/metrics             the check, for Prometheus (extra ``[metrics]``)
GET    /system/sequences           the page: state, cause and remedy, history; offers the repair
====== =========================== =================================================================

For any database, beside its applications, :func:`health_app` is an application of its own::

    app = health_app("postgresql+psycopg://...", authorise=signed_in, history="history.db")

``session`` and ``authorise`` are dependencies as FastAPI knows them. **Nobody is let in by
default**: ``authorise`` guards every path, the page too, and raises an ``HTTPException`` for those
who may not come in; ``authorise_repair`` is asked in addition before a repair. The page's requests
carry what a browser sends by itself, cookies or HTTP authentication, and it works under any prefix.

A request is a transaction, and the router commits it before it answers: 200 means written.
What the database refuses is answered without its SQL, and logged with it; see
:mod:`~sqla_seqreserve.web._refusals`. The page names the database and its host, never a user.

The portal's bulk endpoint is in :mod:`sqla_seqreserve.web.portfolio` (extra ``[portal]``).
"""

from __future__ import annotations

from .app import health_app
from .system import system_router

__all__ = ["health_app", "system_router"]
