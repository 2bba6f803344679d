"""Faults of every kind strike again and again while baskets are saved. Whatever a client got as
saved is stored whole and once, and the client can save again.

Each test counts the baskets and rows that were attempted, lost, written twice and half-written, and
prints its line of the table in the guide ``faults``. ``python -m pytest -m faults tests/faults
-s``, or ``tox -e faults``; ``SQLA_SEQRESERVE_FAULTS`` sets how often each fault strikes (100).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from faults.baskets import DRIVERS, SIZES, Base, Client, Ledger, Verdict, judge
from faults.crashing import CrashingServer
from fixtures.seeds import seed
from fixtures.sides import SYNC_DRIVERS
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from sqla_seqreserve import register
from sqla_seqreserve._wire.relay import Relay

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

TIMES: Final = int(os.environ.get("SQLA_SEQRESERVE_FAULTS", "100"))
FORKING: Final = Path(__file__).with_name("forking.py")
MOST_TURNS: Final = 40 * TIMES


@pytest.fixture(scope="module")
def server() -> Iterator[CrashingServer]:
    """A server that the tests may kill."""
    if sys.platform != "linux":
        pytest.skip("the processes of the server are found as Linux shows them")
    with CrashingServer() as server:
        yield server


@pytest.fixture
def url(server: CrashingServer) -> Iterator[str]:
    """The URL of the server, whose database has only the empty tables of the baskets."""
    engine = create_engine(server.url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()
    yield server.url


@pytest.fixture
def chance() -> random.Random:
    """A random generator whose seed is printed."""
    drawn = seed(anew=True)
    print(f"\nseed {drawn}")
    return random.Random(drawn)


def settle(fault: str, url: str, ledger: Ledger) -> None:
    """Print the fault's line of the table, and fail if anything is lost, duplicate or
    half-written.
    """
    verdict = judge(url, ledger)
    print(
        f"| {fault} | {ledger.struck} | {ledger.attempted:,} | {ledger.rows:,} | {verdict.lost} | "
        f"{verdict.duplicate} | {verdict.half_written} |"
    )
    print(f"  refused: {dict(ledger.errors)}")
    assert ledger.struck >= TIMES, ledger.errors
    assert (verdict.lost, verdict.duplicate, verdict.half_written) == (0, 0, 0)


def in_processes(what: str, url: str, chance: random.Random) -> Ledger:
    """Run the program ``forking.py``, and return the ledger of its clients."""
    done = subprocess.run(
        [sys.executable, FORKING, what, url, str(chance.randrange(10**6)), str(TIMES)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Ledger(**found | {"saved": set(found["saved"]), "errors": Counter(found["errors"])})


def strike(
    url: str,
    chance: random.Random,
    turn: Callable[[Client, int], bool],
    drivers: Sequence[str] = DRIVERS,
    **settings: object,
) -> Ledger:
    """Take turns with a client of each driver until the fault has struck often enough.

    :param turn: lets the fault strike the save of this number, and returns whether it did.
        Afterwards the same client saves undisturbed, and must succeed.
    """
    ledger = Ledger()
    clients = [Client(url, driver, chance, ledger, **settings) for driver in drivers]
    for client in clients:
        client.save(-1 - clients.index(client))
    for number in range(0, 2 * MOST_TURNS, 2):
        client = clients[number // 2 % len(clients)]
        ledger.struck += turn(client, number)
        client.save(number + 1, 3)
        if ledger.struck >= TIMES:
            break
    for client in clients:
        client.close()
    return ledger


def test_the_judge_sees_what_is_wrong(url: str, chance: random.Random) -> None:
    """The judge counts a basket that is missing, one that is stored twice and one that lacks an
    item.
    """
    ledger = Ledger()
    client = Client(url, "psycopg", chance, ledger)
    for number in range(4):
        client.save(number, 3)
    client.close()
    assert judge(url, ledger) == Verdict(lost=0, duplicate=0, half_written=0)

    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in (
            "DELETE FROM item i USING basket b WHERE b.id = i.basket_id AND b.number = 0",
            "DELETE FROM basket WHERE number = 0",
            "DELETE FROM item i USING basket b"
            " WHERE b.id = i.basket_id AND b.number = 1 AND position = 1",
            "UPDATE basket SET number = 3 WHERE number = 2",
        ):
            connection.execute(text(statement))
    engine.dispose()
    assert judge(url, ledger) == Verdict(lost=2, duplicate=1, half_written=1)


def test_clients_killed(url: str, chance: random.Random) -> None:
    """If a client's process is killed while it saves, its transaction is stored whole or not at
    all.
    """
    settle("client killed in mid-save", url, in_processes("killed", url, chance))


def test_forks(url: str, chance: random.Random) -> None:
    """After a process that has saved forks, it and its child save under different ids."""
    settle("process forked, both save", url, in_processes("forked", url, chance))


def test_server_killed(url: str, server: CrashingServer, chance: random.Random) -> None:
    """Whatever was committed before all processes of the server were killed is stored after its
    restart.
    """
    ledger, number = Ledger(), 0
    clients = [Client(url, driver, chance, ledger) for driver in DRIVERS]
    while ledger.struck < TIMES:
        client = clients[ledger.struck % len(clients)]
        # The connection ended with an earlier server: one save fails, and then the pool opens
        # another.
        if not client.try_to_save(number, 3):
            client.save(number + 1, 3)
        killer = threading.Timer(chance.random() * 0.04, server.kill)
        killer.start()
        number += 2
        while client.try_to_save(number):
            number += 1
        killer.join()
        server.start()
        ledger.struck += 1
        number += 1
    for client in clients:
        client.close()
    settle("server killed and restarted", url, ledger)


class Cutter:
    """Cuts a connection at a certain statement, or soon after it.

    :param statement: a part of the statement's text.
    """

    patience = 0.0

    def __init__(self, statement: bytes) -> None:
        self._statement = statement
        self._left: int | None = None
        self._on_the_way_back = False
        self._seen = False

    def arm(self, messages: int, on_the_way_back: bool) -> None:
        """Cut after so many messages behind the statement, of the client or of the server."""
        self._left, self._on_the_way_back, self._seen = messages, on_the_way_back, False

    def sent(self, data: bytes) -> None:
        if self._left is not None:
            self._seen = self._seen or self._statement in data
            if self._seen and not self._on_the_way_back:
                self._count()

    def delivered(self, data: bytes) -> None:
        if self._left is not None and self._seen and self._on_the_way_back:
            self._count()

    def refused_encryption(self) -> None:
        """Called when encryption was refused; the client goes on without."""

    def _count(self) -> None:
        assert self._left is not None
        if self._left == 0:
            self._left = None
            raise ConnectionAbortedError("cut by the test")
        self._left -= 1


@pytest.mark.parametrize(
    ("where", "statement"), [("COPY", b"COPY "), ("the reservation", b"nextval")]
)
def test_connection_cut(
    where: str, statement: bytes, url: str, server: CrashingServer, chance: random.Random
) -> None:
    """If a connection is lost before, during or after COPY or the reservation, no more than its
    transaction is lost.
    """
    cutter = Cutter(statement)
    with Relay(("127.0.0.1", server.port), watch=lambda: cutter) as relay:

        def turn(client: Client, number: int) -> bool:
            # A statement that is prepared would be sent without its text.
            client.reconnect()
            cutter.arm(chance.randrange(3), chance.random() < 0.5)
            struck = not client.try_to_save(number, chance.choice(SIZES[1:]))
            cutter.arm(10**9, on_the_way_back=False)
            return struck

        through = make_url(url).set(port=relay.port).render_as_string(hide_password=False)
        ledger = strike(through, chance, turn, copy_min_rows=1, reserve="always")
    settle(f"connection cut in {where}", url, ledger)


def test_statement_timeouts(url: str, chance: random.Random) -> None:
    """If a statement times out on the server, its transaction is rolled back, wherever it was."""

    def turn(client: Client, number: int) -> bool:
        limit = f"SET LOCAL statement_timeout = {chance.randint(1, 8)}"
        return not client.try_to_save(number, 1000, limit)

    settle("statement timeout", url, strike(url, chance, turn))


def test_lock_timeouts(url: str, chance: random.Random) -> None:
    """If a save times out on a table that another session has locked, nothing of its transaction is
    stored.
    """
    engine = create_engine(url)

    def turn(client: Client, number: int) -> bool:
        table = chance.choice(("basket", "item"))
        with engine.begin() as connection:
            connection.execute(text(f"LOCK TABLE {table} IN SHARE MODE"))
            return not client.try_to_save(number, None, "SET LOCAL lock_timeout = 3")

    ledger = strike(url, chance, turn)
    engine.dispose()
    settle("lock timeout", url, ledger)


def test_disk_full(url: str, server: CrashingServer, chance: random.Random) -> None:
    """If a table's file cannot grow, no row of the transaction is stored."""
    engine = create_engine(url)
    with engine.begin() as connection:
        # Larger than a segment of the server's log, whose writing must not be limited.
        connection.execute(text("INSERT INTO basket (number, size) VALUES (-9, 20000)"))
        connection.execute(
            text(
                "INSERT INTO item (basket_id, position, filling)"
                " SELECT b.id, g, repeat('x', 50) FROM basket b, generate_series(1, 20000) g"
            )
        )
    ledger = Ledger(saved={-9})

    def turn(client: Client, number: int) -> bool:
        backend = client.scalar("SELECT pg_backend_pid()")
        size = client.scalar("SELECT pg_relation_size('item')")
        server.limit_files(backend, size + 8192 * chance.randrange(4))
        struck = not client.try_to_save(number, 600)
        server.limit_files(backend, None)
        return struck

    found = strike(url, chance, turn)
    engine.dispose()
    found.saved |= ledger.saved
    settle("disk full", url, found)


class TimeLimitError(Exception):
    """Raised by a signal's handler, as the time limits of task queues are."""


# A connection that the pool had lent when the signal came may be closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_time_limits(url: str, chance: random.Random) -> None:
    """If a signal raises an exception at any moment of a save, the transaction is stored whole or
    not at all, and after the engine is disposed of, the next save works.
    """

    def expire(number: int, frame: object) -> None:
        raise TimeLimitError

    def turn(client: Client, number: int) -> bool:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.02))
            saved = client.try_to_save(number)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except (TimeLimitError, SQLAlchemyError) as error:
            client.ledger.note(error)
            saved = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not saved:
            # The signal may have come while the pool lent the connection.
            client.reconnect()
        return not saved

    before = signal.signal(signal.SIGALRM, expire)
    try:
        ledger = strike(url, chance, turn, SYNC_DRIVERS)
    finally:
        signal.signal(signal.SIGALRM, before)
    settle("time limit, by a signal", url, ledger)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_tasks_cancelled(driver: str, url: str, chance: random.Random) -> None:
    """If a task is cancelled at any moment, its transaction is stored whole or not at all, and the
    pool can be used.
    """
    ledger = Ledger()

    async def run() -> None:
        engine = create_async_engine(
            make_url(url).set(drivername=f"postgresql+{driver}"), pool_size=4
        )
        client = Client(url, "psycopg", chance, ledger)

        async def save(number: int, size: int | None = None) -> None:
            async with AsyncSession(engine) as session:
                register(session, copy_min_rows=chance.choice((None, 1)))
                session.add(client.basket(number, size))
                await session.commit()
            ledger.saved.add(number)

        for number in range(0, 2 * MOST_TURNS, 2):
            task = asyncio.create_task(save(number))
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, DBAPIError) as error:
                ledger.note(error)
                ledger.struck += 1
            await save(number + 1, 3)
            if ledger.struck >= TIMES:
                break
        client.close()
        await engine.dispose()

    asyncio.run(run())
    settle(f"task cancelled ({driver})", url, ledger)
