"""The rows by which PostgreSQL 19 keeps how a subscription stands with each sequence.

An older server never writes them, so a superuser lays them here as 19 would. What 19 itself does is
not shown by these tests: they show what a check makes of the rows, and what it does without them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.checked import run
from sqlalchemy import Connection, Engine

from sqla_seqreserve.health import Finding, SequenceHealth, check_sequences
from sqla_seqreserve.testing import record_statements


@pytest.fixture
def subscriber(engine: Engine) -> Iterator[Engine]:
    """A database with a subscription, never connected, that fills table t up to 65."""
    if os.environ.get("SQLA_SEQRESERVE_URL"):
        pytest.skip("SQLA_SEQRESERVE_URL names a server, and its catalogue is not ours to write")
    name = f"s_{engine.url.database}"
    with engine.begin() as connection:
        run(
            connection,
            "CREATE TABLE t (id serial PRIMARY KEY)",
            "INSERT INTO t SELECT generate_series(1, 65)",
            "SELECT setval('t_id_seq', 50)",
            f"CREATE SUBSCRIPTION {name} CONNECTION 'dbname=nowhere' PUBLICATION p"
            " WITH (connect = false)",
        )
        lay(connection, "t", "r")
    yield engine
    with engine.begin() as connection:
        run(
            connection,
            f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)",
            f"DROP SUBSCRIPTION {name}",
        )


def lay(connection: Connection, relation: str, state: str) -> None:
    run(
        connection,
        "SET LOCAL allow_system_table_mods = on",
        "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, "
        f"'{relation}'::regclass, '{state}' FROM pg_subscription WHERE subname = "
        "'s_' || current_database()",
    )


def check(connection: Connection, **options: Any) -> SequenceHealth:
    (entry,) = check_sequences(connection, None, **options).sequences
    return entry


def findings(entry: SequenceHealth) -> dict[str, Finding]:
    return {finding.code: finding for finding in entry.findings}


@pytest.mark.parametrize("excused", [False, True])
def test_a_sequence_that_no_subscription_carries(subscriber: Engine, excused: bool) -> None:
    """If a subscription contains only the table, its sequence is NOT_REPLICATED, and nothing more
    is queried.
    """
    with subscriber.connect() as connection, record_statements(subscriber) as statements:
        entry = check(connection, subscriber=excused)
    assert entry.gap == (0 if excused else 15)
    assert set(findings(entry)) - {"BEHIND"} == {"NOT_REPLICATED"}
    assert "does not carry sequences" in findings(entry)["NOT_REPLICATED"].message
    assert "--subscriber" in findings(entry)["NOT_REPLICATED"].remedy
    assert not any("sync_seq_error_count" in statement.sql for statement in statements)


@pytest.mark.parametrize("excused", [False, True])
def test_a_sequence_that_is_synchronised(subscriber: Engine, excused: bool) -> None:
    """The remedy for a replicated sequence has the order of a take-over: a refresh at the end would
    set it back.
    """
    with subscriber.begin() as connection:
        lay(connection, "t_id_seq", "r")
        entry = check(connection, subscriber=excused)
        assert entry.gap == (0 if excused else 15)
        assert entry.status == ("OK" if excused else "NEEDS_REPAIR")
        found = findings(entry)
        assert set(found) - {"BEHIND"} == {"REPLICATED", "NOT_REPLICATED"}
        assert "backwards too" in found["REPLICATED"].message
        for finding in (found["REPLICATED"], found["NOT_REPLICATED"]):
            steps = [
                finding.remedy.index(step)
                for step in (
                    "stop the publisher's writes",
                    "REFRESH SEQUENCES",
                    "DROP SUBSCRIPTION",
                    "repair_sequences()",
                )
            ]
            assert steps == sorted(steps)
        # Ahead of its table it is healthy, and the remark stays.
        run(connection, "SELECT setval('t_id_seq', 65)")
        entry = check(connection, subscriber=excused)
        assert (entry.status, set(findings(entry))) == ("OK", {"REPLICATED"})


@pytest.mark.parametrize("excused", [False, True])
def test_a_sequence_that_is_not_synchronised(subscriber: Engine, excused: bool) -> None:
    """A sequence that is not synchronised has a finding of its own, whatever the gap, with the
    settings to be made equal.
    """
    with subscriber.begin() as connection:
        lay(connection, "t_id_seq", "i")
        entry = check(connection, subscriber=excused)
        assert entry.status == ("WARNING" if excused else "NEEDS_REPAIR")
        finding = findings(entry)["NOT_SYNCHRONISED"]
        assert "has not copied t_id_seq" in finding.message
        assert "increment" in finding.remedy
        assert "REFRESH SEQUENCES" in finding.remedy
        assert "REPLICATED" not in findings(entry)


def test_rows_of_this_server_are_looked_for_where_commits_are_tracked(subscriber: Engine) -> None:
    """Without track_commit_timestamp the origin of rows is unknown, and is not queried."""
    with subscriber.connect() as connection, record_statements(subscriber) as statements:
        assert check(connection, subscriber=True).gap == 0
    assert not any("commit_timestamp_origin" in statement.sql for statement in statements)
