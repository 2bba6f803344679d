"""The help texts on a terminal of 80 columns."""

from __future__ import annotations

import re

import pytest
from fixtures.commands import run_command
from typer.main import get_command

from sqla_seqreserve.cli import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # it is a group


def shown(*arguments: str) -> str:
    return run_command(*arguments, "--help", TERM="dumb").stdout


def squeezed(text: str) -> str:
    return re.sub(r"[\s│`*]+", "", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_text_is_whole(command: str) -> None:
    """No option, word or [bracket] is cut or lost at 80 columns."""
    text = shown(command)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    # Each option's text stands in a column of its own: the columns beside it are left out.
    rows = [line.strip(" │╭╮╰╯─") for line in text.splitlines()]
    described = squeezed("".join(row.rpartition("  ")[2] for row in rows))
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        assert all(option in text for option in parameter.opts if option.startswith("--"))
        if parameter.help:
            last = parameter.help.replace("\\[", "[").split()[-1]
            assert squeezed(last) in described


def test_operators_find_their_commands_first() -> None:
    """--help groups the commands in panels: those for a database first, then demo, then load and
    bench.
    """
    text = shown()
    places = [text.index(f"│ {name} ") for name in ("health", "repair", "watch", "serve", "rules")]
    assert max(places) < text.index("│ demo ") < text.index("│ load ")
    assert text.count("╭─") == 4
