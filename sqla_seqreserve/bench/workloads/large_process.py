"""The process of one large run: reads its order from standard input, and writes the time and the
peak memory to standard output, as JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from contextlib import ExitStack
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.orm import Session

from ..data import payment_values
from ..models import Payment
from ..sessions import Sessions, open_sessions
from ..ways.clock import Clock

__all__ = ["main"]

_CHUNK = 10_000


def main() -> None:
    """Run the order."""
    order: dict[str, Any] = json.load(sys.stdin)
    ours: dict[str, Any] | None = {} if order["ours"] else None
    with ExitStack() as closing:
        sessions = open_sessions(make_url(order["url"]), order["driver"], closing, ours)
        _write(sessions, 20)
        gc.collect()
        seconds = _write(sessions, order["objects"])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = used if sys.platform == "darwin" else used * 1024
    print(json.dumps({"commit": seconds, "peak": peak}))


def _write(sessions: Sessions, count: int) -> float:
    def work(session: Session) -> float:
        made: list[Payment] = []
        seconds = 0.0
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

    return sessions.run(work)


if __name__ == "__main__":
    main()
