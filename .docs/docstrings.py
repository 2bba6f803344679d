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
VERSION = re.compile(r"^( *)\.\. version(added|changed):: (\S+) *(.*)$", re.MULTILINE)
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
    text = VERSION.sub(_version, text)
    text = TITLE.sub(r"**\g<title>**", text)
    text = DEFINITION.sub(r"\n\g<terms>\n:   ", text)
    return "\n".join(_tables(text.split("\n")))


def _code(found: re.Match[str]) -> str:
    target = found["target"]
    return f"`{target.rpartition('.')[2] if found['hidden'] else target}`"


def _version(found: re.Match[str]) -> str:
    said = "New" if found[2] == "added" else "Changed"
    return f"{found[1]}*{said} in version {found[3]}{f': {found[4]}' if found[4] else '.'}*"


def _introduction(found: re.Match[str]) -> str:
    return f"{found['before'].rstrip()}:" if found["before"].strip() else ""


def _tables(lines: list[str]) -> list[str]:
    """The lines with each table of rules of ``=`` as one of Markdown."""
    shown: list[str] = []
    rules = [number for number, line in enumerate(lines) if RULE.match(line)]
    done = 0
    while rules:
        first = rules.pop(0)
        end = first
        while rules and "" not in lines[end : rules[0]]:
            end = rules.pop(0)
        shown += lines[done:first]
        shown += ["", *_table(lines[first : end + 1]), ""]
        done = end + 1
    return [*shown, *lines[done:]]


def _table(lines: list[str]) -> list[str]:
    """One table; a line whose first cell is empty goes on with the row above it."""
    starts = [found.start() for found in re.finditer("=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    rows: list[list[str]] = []
    for line in lines:
        if RULE.match(line):
            continue
        cells = [line[start:end].strip().replace("|", "\\|") for start, end in spans]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [
                f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)
            ]
    if sum(RULE.match(line) is not None for line in lines) == 2:
        rows.insert(0, ["" for _ in spans])  # Markdown wants a head
    rows.insert(1, ["---" for _ in spans])
    return [f"| {' | '.join(row)} |" for row in rows]
