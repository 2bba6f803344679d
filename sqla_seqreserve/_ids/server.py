"""Detects the kind of server: PostgreSQL itself, a node of Citus, or another engine that speaks its
protocol.

Three differences matter here. Each node of a Citus cluster numbers within a window of its own
(:func:`window_of`), and writes to tables whose rows are stored elsewhere (:data:`IS_DISTRIBUTED`).
Other engines lack the ``xmin`` of catalogue rows, by which cached facts are compared, or hand out
ids in ways of their own; for these, :attr:`Server.reason` says why nothing is reserved.

:data:`IS_CITUS` and :data:`IS_DISTRIBUTED` are expressions over catalogues that every PostgreSQL
has, so they are part of a query that is sent anyway. Once they have found Citus, separate queries
read what only Citus has.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, Dialect, text

from .. import _reasons as why
from .._database import known_of
from .._drivers import driver_of, reading_before_lock
from .._reasons import Reason
from .._routes import Distance

log = logging.getLogger("sqla_seqreserve")

ServerKind: TypeAlias = Literal["postgresql", "citus", "other"]

IS_CITUS: Final = (
    "EXISTS (SELECT 1 FROM pg_catalog.pg_proc x WHERE x.proname = 'citus_truncate_trigger')"
)
"""Whether the database is a node of Citus, as an SQL expression. It reads ``pg_proc`` because other
engines have that, but no ``pg_extension``.
"""

IS_DISTRIBUTED: Final = """(c.relhastriggers AND EXISTS (
    SELECT 1 FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND g.tgisinternal AND p.proname = 'citus_truncate_trigger'))"""
"""Whether Citus manages the table, as an SQL expression on ``pg_class c``. Citus gives each such
table an internal trigger, on every node, so distributing a table changes its fingerprint too.
"""

# has_xmin: YugabyteDB does not list the column xmin, and refuses a query that names it.
_SERVER = text(
    f"""
    SELECT version() AS version, {IS_CITUS} AS citus,
           EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = CAST('pg_catalog.pg_class' AS regclass)
                     AND a.attname = 'xmin') AS has_xmin
    """  # noqa: S608  # the expression above, no input
)

# Texts in version() of other engines that use PostgreSQL's protocol, and their names.
_OTHERS: Final = {
    "-YB-": "YugabyteDB",
    "Yugabyte": "YugabyteDB",
    "CockroachDB": "CockroachDB",
    "Redshift": "Amazon Redshift",
    "Greenplum": "Greenplum",
    "Cloudberry": "Cloudberry",
    "Postgres-XL": "Postgres-XL",
    "openGauss": "openGauss",
    "GaussDB": "GaussDB",
    "CrateDB": "CrateDB",
    "Materialize": "Materialize",
    "QuestDB": "QuestDB",
    "RisingWave": "RisingWave",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server by kind and name. :attr:`reason` says why no ids are reserved on it; ``None`` if
    they are.
    """

    kind: ServerKind
    name: str
    has_xmin: bool = True

    @property
    def reason(self) -> Reason | None:
        """Why SQLAlchemy alone writes here, in the words of ``explain`` and the log."""
        if self.kind == "other":
            return why.other_engine(self.name)
        if not self.has_xmin:
            return why.no_xmin(self.name)
        return None


@dataclass(slots=True, eq=False)
class _Found:
    """The kind of an engine's server after it was asked; and until then, judged by what its
    connections report.
    """

    asked: Server | None = None
    taken_for: Server | None = None


def server_of(connection: Connection) -> Server:
    """Return the server behind a connection, as far as it is known. A server that reports what only
    PostgreSQL 14 and newer reports is recognized without a query; any other needs one query for
    each ``create_engine()``.

    The cache holds what the servers behind one engine's URL have in common, and not the differences
    between a coordinator and its workers.
    """
    found = known_of(connection.dialect, _Found)
    known = found.asked or found.taken_for
    if known is not None:
        return known
    driver = driver_of(connection.dialect)
    if driver is not None and driver.setting(connection.connection, "in_hot_standby") is not None:
        said = driver.setting(connection.connection, "server_version") or ""
        known = found.taken_for = server_called(said, citus=False)
        return known
    return ask_server(connection)


def ask_server(connection: Connection) -> Server:
    """Return the server behind a connection: one query for each ``create_engine()``, then none. If
    ids are not reserved, this is logged once.
    """
    dialect = connection.dialect
    found = known_of(dialect, _Found)
    known = found.asked
    if known is None:
        if dialect.name == "postgresql":
            with reading_before_lock(connection):
                row = connection.execute(_SERVER).one()
            known = server_called(row.version, citus=row.citus, has_xmin=row.has_xmin)
        else:
            known = Server("other", dialect.name, has_xmin=False)
        found.asked = known
        if known.kind == "citus":
            # Routes were chosen as for a server that keeps all rows itself.
            known_of(dialect, Distance).chosen = {}
        if known.reason is not None and dialect.name == "postgresql":
            log.warning("nothing is gained by register() on this engine: %s", known.reason)
    return known


def server_kind(dialect: Dialect) -> ServerKind | None:
    """Return the kind of server behind an engine, ``None`` if it is not known yet (no I/O)."""
    known = known_of(dialect, _Found).asked
    return None if known is None else known.kind


def server_called(version: str, *, citus: bool, has_xmin: bool = True) -> Server:
    """Return the server that has this ``version()`` (no I/O)."""
    for mark, name in _OTHERS.items():
        if mark in version:
            return Server("other", name, has_xmin)
    return Server("citus" if citus else "postgresql", "Citus" if citus else "PostgreSQL", has_xmin)


def window_of(group: int, data_type: str) -> tuple[int, int] | None:
    """Return the range of ids that the node of a group may take from a shared sequence, ``None`` if
    it may take none.

    Citus gives the workers' bigint sequences ``MINVALUE`` (group << 48) + 1. We compute the end
    ourselves: the ``MAXVALUE`` that Citus sets is the first id of the next group, and the
    coordinator's sequence has no end in its catalogue. Sequences of smaller types work on the
    coordinator (group 0) only.
    """
    if data_type == "bigint":
        return (-(2**63) if group == 0 else (group << 48) + 1, (group + 1) << 48)
    return (-(2**63), 2**63 - 1) if group == 0 else None


def on_this_node(lock: str) -> str:
    """Return a ``LOCK TABLE`` of distributed tables that is not propagated to the other nodes, as
    one statement (no I/O).

    Altering such a table takes its lock on every node, this one too, so locking on this node is
    enough, and takes a tenth of the time. The user's setting is restored before the transaction
    goes on; otherwise their DDL would not be propagated.
    """
    body = (
        "DECLARE before text := current_setting('citus.enable_ddl_propagation'); BEGIN "
        f"SET LOCAL citus.enable_ddl_propagation = off; {lock}; "
        "PERFORM set_config('citus.enable_ddl_propagation', before, true); END"
    )
    tag = "$seqreserve$"
    while tag in body:
        tag = f"$_{tag[1:]}"
    return f"DO {tag}{body}{tag}"
