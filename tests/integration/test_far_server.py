"""A relay that makes the server appear farther away, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from threading import Thread

import psycopg
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqla_seqreserve._wire.far import far_server
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import round_trips


def conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+psycopg2"])
def test_all_that_is_sent_arrives(database_url: str, driver: str) -> None:
    """Large messages arrive complete in both directions, and the answer takes at least the
    round-trip time that was asked for.
    """
    sent = "x" * 3_000_000
    with far_server(database_url, 0.01) as url:
        engine = create_engine(url.set(drivername=driver))
        with engine.connect() as connection:
            started = time.monotonic()
            assert connection.scalar(text("SELECT :value"), {"value": sent}) == sent
            assert time.monotonic() - started >= 0.01
        engine.dispose()


async def test_it_takes_an_asynchronous_driver(database_url: str) -> None:
    """An asyncpg engine reaches the server through the relay."""
    with far_server(database_url, 0.001) as url:
        engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()


def test_connections_come_and_go(database_url: str) -> None:
    """Many connections, at once and one after the other, each get their own answers."""
    answers: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for _ in range(5):
            with psycopg.connect(conninfo(url), autocommit=True) as connection:
                row = connection.execute("SELECT %s::int", [number]).fetchone()
                assert row is not None
                answers.append((number, row[0]))

    with far_server(database_url, 0.001) as url:
        threads = [Thread(target=work, args=[number]) for number in range(15)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(answers) == 75
    assert all(sent == got for sent, got in answers)


@pytest.mark.skipif(sys.platform == "win32", reason="its files have no such numbers")
def test_a_process_with_many_open_files_has_a_relay(database_url: str) -> None:
    """A relay works where the numbers of its files are beyond the 1,024 that select() can watch:
    large messages pass both ways, and each answer takes its time.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2048
    if hard not in (resource.RLIM_INFINITY, -1) and hard < wanted:
        pytest.skip(f"a process may open {hard} files here")
    sent = "x" * 3_000_000
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open(os.devnull))
        with round_trips(database_url, round_trip_time=0.01) as wire:
            connection = stack.enter_context(psycopg.connect(conninfo(wire.url), autocommit=True))
            with wire.counting() as count:
                started = time.monotonic()
                row = connection.execute("SELECT %s", [sent]).fetchone()
                assert time.monotonic() - started >= 0.01
            assert row == (sent,)
            assert count.round_trips == 1, count


def test_its_end_cuts_what_is_open(database_url: str) -> None:
    """At the end of the block the relay closes open connections."""
    with far_server(database_url, 0.0) as url:
        connection = psycopg.connect(conninfo(url))
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


PROGRAM = """
import sys
from sqla_seqreserve._wire.far import far_server
with far_server(sys.argv[1], 0.0) as url:
    print(url.port, flush=True)
    sys.stdin.read()
"""


def test_it_ends_with_whoever_started_it(database_url: str) -> None:
    """If the process that started the relay is killed, the relay ends too and closes its
    connections.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with psycopg.connect(_at(port, database_url)) as connection:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            with pytest.raises(psycopg.OperationalError):
                while True:
                    connection.execute("SELECT 1")


def _at(port: int, url: str) -> str:
    with far_server(url, 0.0) as far:
        return conninfo(far.set(port=port))


def test_a_server_that_does_not_answer_is_named() -> None:
    """If no server answers at the URL, ConfigurationError says so."""
    with (
        pytest.raises(ConfigurationError, match="no server answers"),
        far_server("postgresql://127.0.0.1:1/x", 0.001),
    ):
        pass
