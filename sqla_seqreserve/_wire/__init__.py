"""Relays PostgreSQL's traffic between a client and a server, counts its round trips, and delays it.

For tests and benchmarks; the core does not use it.
"""
