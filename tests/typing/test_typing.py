"""mypy --strict accepts code as a user writes it, and refuses the calls that are wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="the extra [types] is not installed")

# On a busy machine a type checker works for minutes.
pytestmark = pytest.mark.timeout(900)

USERS_FILE = Path(__file__).with_name("as_a_user.py")


def test_a_users_file_is_clean_and_its_mistakes_are_found(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """mypy accepts the user's file; without its ignores, exactly those lines are errors."""
    bare = tmp_path / "bare.py"
    source = USERS_FILE.read_text()
    bare.write_text(re.sub(r"  # type: ignore.*", "", source))
    wrong = [n for n, line in enumerate(source.splitlines(), 1) if "# type: ignore" in line]
    # Both files in one run, in a folder without this project's settings, as a user's folder is.
    cache = pytestconfig.rootpath / ".mypy_cache" / "users"
    options = ["--strict", "--no-error-summary", "--cache-dir", cache]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, USERS_FILE, bare],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert not [line for line in errors if "bare.py" not in line]
    found = {int(match) for match in re.findall(r"bare\.py:(\d+): error", done.stdout)}
    assert sorted(found) == wrong, done.stdout + done.stderr
