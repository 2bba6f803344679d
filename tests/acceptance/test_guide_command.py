"""The command guide: the guides that ship with the package."""

from __future__ import annotations

from importlib.resources import files

import pytest
from typer.testing import CliRunner

import sqla_seqreserve
from sqla_seqreserve.cli import app

GUIDES = sorted(
    path.name.removesuffix(".md")
    for path in files(sqla_seqreserve).joinpath("guides").iterdir()
    if path.name.endswith(".md")
)


def test_the_guides_are_listed_with_their_titles() -> None:
    """Without a name the command lists each guide in a line, its name first, the index before the
    others.
    """
    done = CliRunner().invoke(app, ["guide"])

    assert done.exit_code == 0
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert sorted(listed) == GUIDES
    assert listed[0] == "index"


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_in_a_pipe_is_its_markdown(name: str) -> None:
    """In a pipe a guide is printed as its Markdown."""
    done = CliRunner().invoke(app, ["guide", name])

    assert done.exit_code == 0
    text = files(sqla_seqreserve).joinpath("guides", f"{name}.md").read_text(encoding="utf-8")
    assert done.stdout.strip() == text.strip()


def test_a_misspelt_name_is_told_what_is_meant() -> None:
    """An unknown name of a guide ends with 2, and the error lists the names and suggests the
    nearest.
    """
    done = CliRunner().invoke(app, ["guide", "geting-started"])

    assert done.exit_code == 2
    assert "Did you mean getting-started?" in done.stderr
