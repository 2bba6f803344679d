"""The Citus cluster that the environment names, if it names one."""

from __future__ import annotations

from fixtures.cluster import Cluster
from sqlalchemy import text


def test_every_node_answers(citus: Cluster) -> None:
    """The coordinator and each worker run Citus and know their group."""
    for group, engine in zip(citus.groups, citus.engines, strict=True):
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT groupid FROM pg_dist_local_group")) == group
