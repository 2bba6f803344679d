"""A million objects at once, each run in a process of its own: whether the time per object is the
same as with 20,000, and how much memory a run takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

from sqla_seqreserve.errors import SeqReserveError

from ..models import Payment
from ..place import Place
from ..work import OURS, PLAIN, Measure, Required, Way, Work
from .one_table import PAYMENTS

__all__ = ["LARGE"]

_MANY: Final = 1_000_000
_FEW: Final = 20_000


def _in_process(ours: bool, place: Place, objects: int) -> Mapping[str, float]:
    order = {
        # By standard input, because everybody on the machine can read a command line.
        "url": place.url.render_as_string(hide_password=False),
        "driver": place.driver,
        "ours": ours,
        "objects": objects,
    }
    done = subprocess.run(  # this interpreter, this package
        [sys.executable, "-m", "sqla_seqreserve.bench.workloads.large_process"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SeqReserveError(
            f"The process that writes {objects:,} objects ended with {done.returncode}: "
            f"{done.stderr.strip()[-2000:]}"
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _way(name: str, objects: int) -> Way:
    return Way(f"{name}, {objects:,}", partial(_in_process, name == OURS), objects=objects)


_OURS, _PLAIN = _way(OURS, _MANY), _way(PLAIN, _MANY)
_OURS_FEW, _PLAIN_FEW = _way(OURS, _FEW), _way(PLAIN, _FEW)

LARGE: Final = Work(
    "large",
    "add_all + commit, a million objects",
    _MANY,
    (Payment.__tablename__,),
    PAYMENTS,
    (_OURS, _OURS_FEW, _PLAIN, _PLAIN_FEW),
    (
        Measure(
            "commit",
            "",
            (Required(_OURS_FEW.name, 1.2, "at most"), Required(_PLAIN.name, 3)),
            ours=_OURS.name,
        ),
        Measure(
            "peak",
            "peak memory",
            (Required(_PLAIN.name, 1.0, "at most"),),
            unit="MB",
            ours=_OURS.name,
        ),
    ),
    rounds=3,
    only_large=True,
)
