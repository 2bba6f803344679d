"""Makes a server appear farther away, for measuring: a relay in a process of its own.

In the measured process, a relay would compete with the measured code for the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import URL

from ..errors import ConfigurationError
from .address import by_way_of, server_address
from .relay import Address, Relay

_PR_SET_TIMERSLACK: Final = 29
_AWAKE: Final = 0.0001


@contextlib.contextmanager
def far_server(url: URL | str, round_trip_time: float) -> Iterator[URL]:
    """The URL of the same database, made farther away during the block.

    The relay passes everything on, encrypted or not. Each connection takes two of the files that
    a process may open; beyond 1,024 files, delays are rounded up to milliseconds.

    :param round_trip_time: seconds by which a round trip takes longer, half of it each way. The
        relay itself adds less than a tenth of a millisecond.
    :raises ConfigurationError: the URL is not PostgreSQL's, no server answers there, or the process
        does not start.
    """
    order = {"server": server_address(url), "delay": round_trip_time / 2}
    process = subprocess.Popen(  # noqa: S603  # this interpreter, this package
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # its exit closes the process's standard input, which ends the process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        said = process.stdout.readline()
        if not said:
            raise ConfigurationError(
                f"The process that keeps the server at a distance ended with {process.wait()} "
                "instead of saying where it listens; what it wrote to standard error tells why"
            )
        yield by_way_of(int(said), url)


def main() -> None:
    """Relay until standard input ends, which it does when the parent process ends in any way."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    server: Address = (
        order["server"] if isinstance(order["server"], str) else tuple(order["server"])
    )
    _wake_in_time()
    gc.collect()
    gc.freeze()
    gc.disable()  # the relay makes no cycles, and a collection would delay what is measured
    with Relay(server, order["delay"], awake=_AWAKE) as relay:
        print(relay.port, flush=True)
        sys.stdin.read()


def _wake_in_time() -> None:
    """Make Linux's timers precise: by default they may be 50 microseconds late. Threads inherit
    this.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
