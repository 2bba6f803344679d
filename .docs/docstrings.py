"""Docstrings are written in reStructuredText, as they read well in help(); MkDocs wants Markdown.

An extension of Griffe, which turns what the docstrings use of the one into the other: roles,
literal blocks, tables, titles and definitions.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:py:)?[a-z]+:`(?P<hidden>[~.])?\.?(?P<target>[^`]+)`")
LITERAL = re.compile(r"^(?P<before>.*?)::$", re.MULTILINE)
RULE = re.compile(r"^ *=+( +=+)+$")
TITLE = re.compile(r"^(?P<title>\S.*)\n=+$", re.MULTILINE)
DEFINITION = re.compile(r"^(?P<terms>``.+)\n {4}(?=\S)", re.MULTILINE)


class Markdown(griffe.Extension):
    """Turns each docstring into Markdown as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring's text in place."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return the text in Markdown."""
    text = ROLE.sub(_code, text)
    text = LITERAL.sub(_introduction, text)
    text = TITLE.sub(r"**\g<title>**", text)
    text = DEFINITION.sub(r"\g<terms>\n:   ", text)
    return "\n".join(_tables_as_blocks(text.split("\n")))


def _code(found: re.Match[str]) -> str:
    target = found["target"]
    return f"`{target.rpartition('.')[2] if found['hidden'] else target}`"


def _introduction(found: re.Match[str]) -> str:
    return f"{found['before'].rstrip()}:" if found["before"].strip() else ""


def _tables_as_blocks(lines: list[str]) -> list[str]:
    shown: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        rule = RULE.match(line) is not None
        starts = rule and not inside
        inside = inside or rule
        shown.append(f"    {line}" if inside and line else line)
        ends = rule and not starts and not any(RULE.match(later) for later in _block(lines, number))
        inside = inside and not ends
    return shown


def _block(lines: list[str], number: int) -> list[str]:
    """The lines after the number, up to the next that is empty."""
    rest = lines[number + 1 :]
    return rest[: rest.index("")] if "" in rest else rest
