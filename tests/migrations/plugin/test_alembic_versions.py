"""Releases of Alembic, each in an environment of its own with this package installed from a wheel.

Not part of an ordinary run, because it installs packages; ``tox -e alembic-versions`` runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alembic_versions

ROOT = Path(__file__).parents[3]
RELEASES = ["1.18.0", "1.18.4", "1.19.2", "1.20.0", "1.20.1", "newest"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the package, with its entry points, as users install it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize("release", RELEASES)
def test_works_beside_alembic(release: str, wheel: Path, tmp_path: Path, database_url: str) -> None:
    """With each release of Alembic and this package installed, ``import alembic`` works, and a
    migration of sequences succeeds in both directions.
    """
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    alembic = "alembic" if release == "newest" else f"alembic=={release}"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", str(wheel), "psycopg[binary]", alembic],
        check=True,
    )
    smoke = Path(__file__).with_name("smoke.py")
    subprocess.run([python, "-I", str(smoke), database_url], check=True, cwd=tmp_path)
