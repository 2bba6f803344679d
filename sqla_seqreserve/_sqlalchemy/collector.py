"""Pauses Python's cyclic garbage collector in the loops of a large flush or bulk insert.

Saving thousands of objects creates hundreds of thousands of containers and no cycles, yet every
thousand of them starts a collection over everything that the application holds: a third of the time
of a flush, with this package and with plain SQLAlchemy (measured for issue 3). The collector is
paused while such loops run, and continues afterwards as before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

_MANY: Final = 1_000


_NOTHING: Final = nullcontext()


def collector_paused(objects: int) -> AbstractContextManager[None]:
    """Pause the collector for the block if it handles many objects, and if no other code has paused
    it.

    The pause applies to all threads of the process; garbage that they leave meanwhile is collected
    later.
    """
    return _paused() if objects >= _MANY and gc.isenabled() else _NOTHING


@contextmanager
def _paused() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
