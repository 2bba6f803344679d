"""Keeps Python's cyclic garbage collector out of the loops of a large flush or bulk insert.

Saving thousands of objects makes hundreds of thousands of containers and no cycle among them, yet
each thousand of them sets the collector going over everything that the application holds: a third
of the time of a flush, ours and stock's alike (measured for issue 3). It is paused while such loops
run, and goes on afterwards as before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

_MANY: Final = 1_000


_NOTHING: Final = nullcontext()


def collector_paused(objects: int) -> AbstractContextManager[None]:
    """Pause the collector for the block if it handles many objects, and if nobody else has paused
    it.

    The pause holds for every thread of the process; what they leave meanwhile is collected after
    it.
    """
    return _paused() if objects >= _MANY and gc.isenabled() else _NOTHING


@contextmanager
def _paused() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
