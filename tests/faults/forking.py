"""Clients in processes of their own: ``python forking.py {killed,forked} URL SEED TIMES``.

``killed``: one client after the other, each killed by SIGKILL at a random moment of a save.
``forked``: an application that has saved forks, and both processes save again. Prints the ledger as
JSON. The processes are forked from this one, which has imported everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg  # noqa: F401  # imported once, before the fork
import psycopg2  # noqa: F401  # the same

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.baskets import DRIVERS, SIZES, Client, Ledger


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run ``work(tell)`` in a process forked from this one; return its id and the pipe of its
    lines.
    """
    there, here = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(there)
        code = 1
        with contextlib.suppress(BaseException):
            with os.fdopen(here, "w", buffering=1) as stream:
                work(lambda line: print(line, file=stream))
            code = 0
        # Without the exit handlers that the parent registered.
        os._exit(code)
    os.close(here)
    return pid, there


def lines(pipe: int) -> Iterator[str]:
    """The lines that the process writes until it ends."""
    with os.fdopen(pipe) as stream:
        for line in stream:
            yield line.strip()


def killed_clients(url: str, chance: random.Random, times: int) -> Ledger:
    ledger, number = Ledger(), 0
    while ledger.struck < times:
        first, driver, seed = number, chance.choice(DRIVERS), chance.random()

        def work(
            tell: Callable[[str], None],
            first: int = first,
            driver: str = driver,
            seed: float = seed,
        ) -> None:
            dice = random.Random(seed)
            client = Client(url, driver, dice, Ledger())
            for number in range(first, first + 1000):
                size = dice.choice(SIZES)
                tell(f"begin {number} {size + 1}")
                client.save(number, size)
                tell(f"done {number}")

        pid, pipe = forked(work)
        begun = done = 0
        # Not the first save, before which there is no connection and no fact about the tables.
        last, moment = chance.randint(2, 4), chance.random() * 0.03
        for line in lines(pipe):
            word, what, *rest = line.split()
            number = int(what) + 1
            if word == "begin":
                begun += 1
                ledger.attempted += 1
                ledger.rows += int(rest[0])
                if begun == last:
                    time.sleep(moment)
                    os.kill(pid, signal.SIGKILL)
            else:
                done += 1
                ledger.saved.add(int(what))
        os.waitpid(pid, 0)
        if begun < last:
            raise SystemExit("a client ended by itself")
        ledger.struck += begun > done
    return ledger


def forking_application(url: str, chance: random.Random, times: int) -> Ledger:
    ledger, number = Ledger(), 0
    drivers = [driver for driver in DRIVERS if driver != "asyncpg"]
    # With ids kept ahead: a process that used its parent's ids would save them twice.
    settings = {"reserve": "always", "prefetch": 50}
    clients = [Client(url, driver, chance, ledger, **settings) for driver in drivers]
    for turn in range(times):
        client = clients[turn % len(clients)]
        client.save(number, 3)
        first = number + 1

        def work(tell: Callable[[str], None], client: Client = client, first: int = first) -> None:
            client.leave_to_the_parent()
            for number in (first, first + 1):
                tell(f"begin {number}")
                client.save(number, 3)
                tell(f"done {number}")

        pid, pipe = forked(work)
        client.save(first + 2, 3)
        client.save(first + 3, 3)
        for line in lines(pipe):
            word, what = line.split()
            if word == "begin":
                ledger.attempted += 1
                ledger.rows += 4
            else:
                ledger.saved.add(int(what))
        _, code = os.waitpid(pid, 0)
        if code:
            raise SystemExit("a forked process failed to save")
        ledger.struck += 1
        number = first + 4
    for client in clients:
        client.close()
    return ledger


if __name__ == "__main__":
    what, url, seed, times = sys.argv[1:]
    run = {"killed": killed_clients, "forked": forking_application}[what]
    found = dataclasses.asdict(run(url, random.Random(int(seed)), int(times)))
    json.dump(found | {"saved": sorted(found["saved"])}, sys.stdout)
