"""What the commands say about a database that is named in a way that they cannot use."""

from __future__ import annotations

import pytest
from fixtures.commands import run_command

URL_LIKE = "postgresql://user:password@host:port/database"


@pytest.mark.parametrize(
    "command", ["health", "repair", "serve", "watch", "demo", "bench", "bench --driver psycopg"]
)
def test_a_word_that_is_no_url_is_told_what_a_url_looks_like(command: str) -> None:
    """A --url that is neither a URL nor a libpq string is refused with the shape of a URL, and is
    not repeated: it may be a secret that was pasted into the wrong place.
    """
    done = run_command(*command.split(), "--url", "s3cret")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert URL_LIKE in done.stderr
    assert "s3cret" not in done.stderr


def test_an_environment_variable_that_is_no_url_is_named() -> None:
    """The user did not type it in this command, and so needs to know where it comes from."""
    done = run_command("health", SQLA_SEQRESERVE_URL="", DATABASE_URL="s3cret")
    assert done.returncode == 2
    assert done.stderr.startswith("error: DATABASE_URL is neither")
    assert URL_LIKE in done.stderr
    assert "s3cret" not in done.stderr
