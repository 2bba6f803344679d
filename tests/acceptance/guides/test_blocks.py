"""Every block of the guides and of the README is run on a real PostgreSQL, in its order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from fixtures.guides.blocks import READ, RUN, blocks_of

import sqla_seqreserve
from sqla_seqreserve.embedded import EmbeddedServer

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "guides"
GUIDES = sorted(Path(str(files(sqla_seqreserve).joinpath("guides"))).glob("*.md"))
README = ROOT / "README.md"

#: What a guide is about, of what [test] does not bring: [docs] does, and tox -e docs runs this.
WANTS = {
    "flask": ("flask_sqlalchemy", "Flask-SQLAlchemy"),
    "litestar": ("advanced_alchemy", "Advanced Alchemy"),
    "sqlmodel": ("sqlmodel", "SQLModel"),
}

#: Of others' packages, with SQLAlchemy 2.1: Advanced Alchemy still uses the decorator.
WARNINGS = ("error", "ignore:The declarative_mixin decorator")

PAGES = [pytest.param(path, id=path.stem) for path in (README, *GUIDES)]


@pytest.mark.parametrize("path", PAGES)
def test_every_block_runs_or_says_that_it_does_not(path: Path) -> None:
    """Each block of a guide is in a language that is run, or is text."""
    for block in blocks_of(path):
        assert block.language in RUN | READ, f"{path.name}, line {block.line}: {block.language!r}"


@pytest.mark.parametrize("path", PAGES)
def test_the_blocks_run(
    path: Path, database_url: str, postgres_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The blocks of a page run one after the other without an error, and print what the
    page shows.
    """
    module, name = WANTS.get(path.stem, ("sqlalchemy", "SQLAlchemy"))
    if find_spec(module) is None:
        pytest.skip(f"{name} is not installed: tox -e docs runs this")
    shutil.copytree(FIXTURES / "shop", tmp_path / "shop")
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["SQLA_SEQRESERVE_URL"] = postgres_server.url
    done = subprocess.run(
        [
            *(sys.executable, "-P", *(f"-W{action}" for action in WARNINGS)),
            *(FIXTURES / "run_guide.py", path, database_url),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
