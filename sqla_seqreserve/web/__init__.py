"""Sequence health and repair over HTTP, with a page for people (extra ``[web]``).

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

:func:`health_app` is an application of its own, for any database::

    app = health_app("postgresql+psycopg://...", authorise=signed_in, history="history.db")

``session`` and ``authorise`` are FastAPI dependencies. **Nobody has access by default**:
``authorise`` is called for every path, including the page, and must raise an ``HTTPException`` for
users without access; ``authorise_repair`` is called in addition before a repair. The page's
requests are authenticated by what a browser sends itself, cookies or HTTP authentication, and the
page works under any prefix.

A request is a transaction, and the router commits it before it answers: 200 means written.
The answer to a request that the database refuses contains no SQL; the log does; see
:mod:`~sqla_seqreserve.web._refusals`. The page names the database and its host, never a user.

The portal's bulk endpoint is in :mod:`sqla_seqreserve.web.portfolio` (extra ``[portal]``).
"""

from __future__ import annotations

from .app import health_app
from .system import system_router

__all__ = ["health_app", "system_router"]
