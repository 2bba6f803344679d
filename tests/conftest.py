"""Fixtures of the whole suite: those that the package offers to its users."""

pytest_plugins = ["sqla_seqreserve.testing"]
