"""The process of one large run: reads its order from standard input, and writes the time and the
peak memory to standard output, as JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import register

from ..data import payment_values
from ..models import Payment
from ..ways.clock import Clock

__all__ = ["main"]

_CHUNK = 10_000


def main() -> None:
    """Do as ordered."""
    order: dict[str, Any] = json.load(sys.stdin)
    engine = create_engine(order["url"])
    sessions = sessionmaker(engine)
    if order["ours"]:
        register(sessions)
    _write(sessions, 20)
    gc.collect()
    seconds = _write(sessions, order["objects"])
    engine.dispose()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = used if sys.platform == "darwin" else used * 1024
    print(json.dumps({"commit": seconds, "peak": peak}))


def _write(sessions: sessionmaker[Session], count: int) -> float:
    made: list[Payment] = []
    seconds = 0.0
    with sessions() as session:
        for start in range(0, count, _CHUNK):
            values = [payment_values(n) for n in range(start, min(start + _CHUNK, count))]
            clock = Clock()
            made += [Payment(**row) for row in values]
            seconds += clock.seconds()
        # The last one would keep its dictionaries beside the objects.
        values = []
        clock = Clock()
        session.add_all(made)
        session.commit()
        return seconds + clock.seconds()


if __name__ == "__main__":
    main()
