"""PostgreSQL's wire between a client and a server: relayed, counted, and made longer.

For tests and benchmarks; nothing of the core knows it.
"""
