"""The code of the guides and of the README passes a type checker in its strictest setting."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fixtures.guides.blocks import blocks_of

import sqla_seqreserve

pytest.importorskip("pyright", reason="the extra [types] is not installed")

# On a busy machine a type checker works for minutes.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "tests" / "fixtures" / "guides" / "shop"
GUIDES = sorted(Path(str(files(sqla_seqreserve).joinpath("guides"))).glob("*.md"))

PAGES = [ROOT / "README.md", *GUIDES]
USERS_FILE = Path(__file__).with_name("as_a_user.py")

SETTINGS: dict[str, Any] = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    # Alembic's plugin is imported for its effect, with a comment for ruff beside it.
    "reportUnusedImport": False,
}

OPERATION = re.compile(r"^(Type of )?\"(\w+_(sequence|table))\" is (unknown|not a known attribute)")
"""Operations that other packages add to Alembic's ``op`` when they are imported, which no type
checker sees.
"""

WANTS = {"flask": "flask_sqlalchemy", "litestar": "advanced_alchemy", "sqlmodel": "sqlmodel"}
"""Guide -> the module that it is about, which only the extra [docs] installs."""


def write_code(page: Path, folder: Path) -> None:
    """Write a page's Python into a folder: one module of the blocks that run one after the other,
    with the page's line numbers, and each block that is a file.
    """
    shutil.copytree(SHOP, folder / "shop")
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language != "python":
            continue
        if block.title is not None:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        else:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    if lines:
        (folder / f"{page.stem.replace('-', '_')}_page.py").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors that pyright finds, by page, from one run for all pages, because it starts
    slowly.
    """
    root = tmp_path_factory.mktemp("pages")
    folders = {page.stem: root / page.stem for page in PAGES}
    for page in PAGES:
        write_code(page, folders[page.stem])
    folders["as_a_user"] = root / "as_a_user"
    folders["as_a_user"].mkdir()
    shutil.copy(USERS_FILE, folders["as_a_user"])
    environments = [{"root": name} for name in folders]
    settings = json.dumps(SETTINGS | {"executionEnvironments": environments})
    (root / "pyrightconfig.json").write_text(settings)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=840, check=False
    )
    found: dict[str, list[str]] = {name: [] for name in folders}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        file = Path(each["file"]).relative_to(root)
        if OPERATION.match(each["message"]):
            continue
        place = f"{file}, line {each['range']['start']['line'] + 1}"
        found[file.parts[0]].append(f"{place}: {each['message']} ({each.get('rule')})")
    return found


@pytest.mark.parametrize("page", [page.stem for page in PAGES])
def test_pyright_finds_nothing(page: str, problems: dict[str, list[str]]) -> None:
    """pyright in strict mode finds no error in the examples of a page, so that a user can paste
    them.
    """
    if (module := WANTS.get(page)) is not None and find_spec(module) is None:
        pytest.skip(f"{module} is not installed: the extra [docs] brings it")
    found = problems[page]
    assert found == [], "\n".join(found)


def test_pyright_reads_what_a_user_writes(problems: dict[str, list[str]]) -> None:
    """pyright in strict mode finds no error in the file that mypy accepts."""
    assert problems["as_a_user"] == []
