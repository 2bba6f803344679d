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


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, and give the process and the URL that it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "SQLA_SEQRESERVE_URL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sqla_seqreserve", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 0


def test_serve_needs_nothing_and_ends_cleanly() -> None:
    """Without a URL it starts and migrates a server of its own; SIGTERM ends both, quietly."""
    with served() as (process, url):
        with httpx.Client(base_url=url.partition("?")[0], timeout=60) as client:
            assert client.get("/system/sequence-health").status_code == 401
            assert client.get("/openapi.json").status_code == 401
            assert client.get("/", params={"token": "guessed"}).status_code == 401
            page = client.get(url, follow_redirects=True)
            assert page.status_code == 200
            assert "<title>Sequences</title>" in page.text
            health = client.get("/system/sequence-health").json()
            assert (health["overall_health"], health["total_sequences"]) == ("HEALTHY", 8)
        end(process, signal.SIGTERM)


def test_serve_on_a_url(portfolio_url: str) -> None:
    """A program sends the token as a bearer's; Ctrl-C ends the command with 0."""
    with served("--url", portfolio_url) as (process, url):
        address, _, token = url.partition("?token=")
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            assert client.post("/holding_activity_logs/bulk", json=[]).status_code == 200
        assert address.startswith("http://127.0.0.1:")
        end(process, signal.SIGINT)


@pytest.mark.parametrize("case", ["port", "url"])
def test_what_serve_cannot_do_is_said_in_one_line(case: str) -> None:
    """A port in use and a URL that is none end with exit code 2, and no password is shown."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = {
            "port": ["--port", str(taken.getsockname()[1]), "--url", "postgresql://x"],
            "url": ["--port", "0", "--url", "postgresql//u:secret@h"],
        }[case]
        done = subprocess.run(
            [sys.executable, "-m", "sqla_seqreserve", "serve", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr
