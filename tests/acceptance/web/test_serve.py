"""The command serve, run as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fixtures.patience import PATIENCE
from sqlalchemy import Engine, text


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, and give the process and the URL of the page that it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "SQLA_SEQRESERVE_URL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sqla_seqreserve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("http://"):
                yield process, line.strip()
                break
        else:
            raise AssertionError(process.communicate())
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert errors == ""
    assert process.returncode == 0


@pytest.fixture
def orders(engine: Engine) -> Engine:
    """A table whose sequence is behind, and a schema of its own beside it."""
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE orders (id serial PRIMARY KEY)",
            "INSERT INTO orders VALUES (5)",
            "CREATE SCHEMA billing CREATE TABLE invoices (id serial PRIMARY KEY)",
        ):
            connection.execute(text(statement))
    return engine


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_serve_shows_your_database(driver: str, orders: Engine) -> None:
    """serve takes any driver's URL, gives no access without the token, and SIGTERM ends
    it quietly.
    """
    database = orders.url.set(drivername=f"postgresql+{driver}")
    with started("serve", database.render_as_string(hide_password=False)) as (process, url):
        with httpx.Client(base_url=url.partition("?")[0], timeout=PATIENCE) as client:
            assert client.get("/system/sequence-health").status_code == 401
            assert client.get("/", params={"token": "guessed"}).status_code == 401
            page = client.get(url, follow_redirects=True)
            assert page.status_code == 200
            assert "<title>Sequences</title>" in page.text
            found = client.get("/system/sequence-health").json()["sequences"]
            assert {(s["table"], s["status"]) for s in found} == {
                ("orders", "NEEDS_REPAIR"),
                ("billing.invoices", "OK"),
            }
            assert client.post("/holding_activity_logs/bulk", json=[]).status_code == 404
        end(process, signal.SIGTERM)


def test_serve_narrows_to_a_schema_or_models(orders: Engine, database_url: str) -> None:
    """--schema and module:Base limit what serve shows; Ctrl-C ends it with 0."""
    models = "sqla_seqreserve.bench.models:Base"
    with started("serve", database_url, "--schema", "billing") as (process, url):
        assert tables(url) == {"billing.invoices"}
        end(process, signal.SIGINT)
    with started("serve", models, "--url", database_url) as (process, url):
        assert "orders" not in tables(url)
        end(process, signal.SIGINT)


def tables(url: str) -> set[str]:
    """Return the tables that the page at the URL knows, as a program asks for them."""
    address, _, token = url.partition("?token=")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, timeout=PATIENCE) as client:
        return {s["table"] for s in client.get("/system/sequence-health").json()["sequences"]}


def test_the_demo_serves_the_portal() -> None:
    """Without a URL the demo has a server of its own, fills it and serves the portal from it."""
    with started("demo", "--serve", "--clients", "1", "--compare", "0") as (process, url):
        address, _, token = url.partition("?token=")
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=headers, timeout=PATIENCE) as client:
            health = client.get("/system/sequence-health").json()
            assert (health["overall_health"], health["total_sequences"]) == ("HEALTHY", 8)
            assert client.post("/holding_activity_logs/bulk", json=[]).status_code == 200
        end(process, signal.SIGTERM)


@pytest.mark.parametrize("case", ["port", "url", "nobody", "schema"])
def test_what_serve_cannot_do_is_said_in_one_line(case: str, database_url: str) -> None:
    """A port in use, a wrong URL, a server that does not answer and a missing schema end with exit
    code 2 and one line without a password.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = {
            "port": [database_url, "--port", str(taken.getsockname()[1])],
            "url": ["--port", "0", "--url", "postgresql//u:secret@h"],
            "nobody": ["--port", "0", "postgresql://u:secret@127.0.0.1:1/x"],
            "schema": [database_url, "--port", "0", "--schema", "typo"],
        }[case]
        done = subprocess.run(
            [sys.executable, "-m", "sqla_seqreserve", "serve", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr
