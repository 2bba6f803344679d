"""A count of the repairs of this process, by which ids kept ahead are known to be outdated.

A repair moves a sequence past ids that a table holds already. Whoever keeps ids that were taken
before may hold some of these very ids. :func:`moves` tells them whether a sequence was moved since:
note it **before** the ids are fetched, and throw them away once it has changed. Repairs are rare,
so all sequences share one count. What other processes repair is not known here.
"""

from __future__ import annotations

import itertools

_counter = itertools.count(1)
_moves = 0


def moves() -> int:
    """How many times a sequence was moved by this process."""
    return _moves


def sequence_moved() -> None:
    """Count a sequence as moved; called once the database has moved it."""
    global _moves
    _moves = next(_counter)
