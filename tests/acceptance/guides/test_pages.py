"""What a reader meets before the first block: the lists of pages, links, and 80 columns."""

from __future__ import annotations

import io
import re
from importlib.resources import files
from pathlib import Path

import pytest
from fixtures.guides.blocks import blocks_of
from rich.console import Console
from rich.markdown import Markdown

import sqla_seqreserve

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
GUIDES = sorted(Path(str(files(sqla_seqreserve).joinpath("guides"))).glob("*.md"))
INDEX = next(path for path in GUIDES if path.stem == "index")

_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_the_index_lists_every_guide() -> None:
    """Each guide that ships is linked from the index."""
    linked = _LINK.findall(INDEX.read_text(encoding="utf-8"))
    assert {path.name for path in GUIDES} - {*linked, INDEX.name} == set()


def test_the_readme_is_short_and_leads_somewhere() -> None:
    """The README has fewer than 130 lines, and each of its links is a file."""
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") < 130
    assert [link for link in _LINK.findall(text) if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_is_whole_at_80_columns(path: Path) -> None:
    """In a terminal no word of a table is cut, and no line of a picture is broken."""
    out = io.StringIO()
    Console(file=out, width=80).print(Markdown(path.read_text(encoding="utf-8"), hyperlinks=False))
    assert [line for line in out.getvalue().splitlines() if "…" in line] == []
    pictures = [block.text for block in blocks_of(path) if block.language == "text"]
    assert [line for text in pictures for line in text.splitlines() if len(line) > 78] == []
