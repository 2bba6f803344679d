"""The engine of a server, recognised by its own report, and the ids that a node of Citus
may use.
"""

from __future__ import annotations

import itertools

import pytest

from sqla_seqreserve._ids.server import on_this_node, server_called, window_of

VERSIONS = {
    "PostgreSQL 15.20 (Debian 15.20-0+deb12u1) on x86_64-pc-linux-gnu": (
        "postgresql",
        "PostgreSQL",
    ),
    "PostgreSQL 16.4 on aarch64-unknown-linux-gnu, compiled by gcc": ("postgresql", "PostgreSQL"),
    "PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64-pc-linux-gnu": ("other", "YugabyteDB"),
    "CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27)": ("other", "CockroachDB"),
    "PostgreSQL 8.0.2 on i686-pc-linux-gnu, Redshift 1.0.12103": ("other", "Amazon Redshift"),
    "PostgreSQL 12.12 (Greenplum Database 7.0.0 build commit:0a7a)": ("other", "Greenplum"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_known_by_its_version(version: str) -> None:
    """A server that is not PostgreSQL is reported by its own name, and is left to SQLAlchemy."""
    engine = server_called(version, citus=False)
    assert (engine.kind, engine.name) == VERSIONS[version]
    assert (engine.reason is None) == (engine.kind == "postgresql")
    assert engine.reason is None or engine.name in engine.reason.text


def test_citus_is_no_reason_and_a_catalogue_without_xmin_is() -> None:
    """Ids are reserved on Citus, but not on a server whose catalogue cannot show that a table was
    altered.
    """
    assert server_called("PostgreSQL 15.20", citus=True).kind == "citus"
    assert server_called("PostgreSQL 15.20", citus=True).reason is None
    assert "no xmin" in str(server_called("PostgreSQL 15.20", citus=False, has_xmin=False).reason)


def test_the_windows_of_the_nodes_do_not_meet() -> None:
    """The ids of each node of Citus end where the next node's begin, and small types work on the
    coordinator.
    """
    windows = [window_of(group, "bigint") for group in range(4)]
    assert windows[0] == (-(2**63), 2**48)
    assert windows[1] == (2**48 + 1, 2**49)
    for before, after in itertools.pairwise(windows):
        assert before is not None
        assert after is not None
        assert before[1] + 1 == after[0]
    assert window_of(0, "integer") is not None
    assert window_of(1, "integer") is None
    assert window_of(2, "smallint") is None


def test_a_lock_of_one_node_is_one_statement_whatever_the_names_are() -> None:
    """No table name, however odd, can end the string that contains the statement of a
    node's lock.
    """
    lock = 'LOCK TABLE ONLY "a$seqreserve$b;" IN ROW EXCLUSIVE MODE'
    found = on_this_node(lock)
    tag = found.split()[1].removesuffix("DECLARE")
    assert tag != "$seqreserve$"
    assert found.count(tag) == 2
    assert found.endswith(f"END{tag}")
    assert lock in found
