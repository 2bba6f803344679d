"""Fixtures of the whole suite: those that the package offers to its users, and ours by theme."""

pytest_plugins = [
    "sqla_seqreserve.testing",
    "fixtures.run_names",
    "fixtures.bulk_keys",
    "fixtures.cluster",
    "fixtures.databases",
    "fixtures.far",
    "fixtures.heard",
    "fixtures.pairs",
    "fixtures.pgbouncer",
    "fixtures.production_like",
    "fixtures.replication",
    "fixtures.twins",
]
