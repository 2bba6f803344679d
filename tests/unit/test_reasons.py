"""Reasons are values, made in two modules and compared nowhere by their text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from fixtures.reasons import EVERY, MAKERS

from sqla_seqreserve import _reasons
from sqla_seqreserve._reasons import Reason
from sqla_seqreserve._rows import reasons as of_rows

ROOT = Path(_reasons.__file__).parent
HOMES = {Path(_reasons.__file__), Path(of_rows.__file__)}
TREES = {path: ast.parse(path.read_text(), str(path)) for path in sorted(ROOT.rglob("*.py"))}


def test_a_reason_is_equal_to_one_that_says_the_same() -> None:
    """Rows are summed up by their reason, so equal reasons have one hash."""
    assert of_rows.no_value("code") == of_rows.no_value("code")
    assert len({of_rows.no_value("code"), of_rows.no_value("code"), of_rows.no_value("id")}) == 2
    assert str(of_rows.no_value("code")) == "code has no value"


@pytest.mark.parametrize("name", EVERY)
def test_a_reason_has_a_remedy(name: str) -> None:
    """Reason and remedy are sentences without a full stop, for a table shows them."""
    for words in (EVERY[name].text, EVERY[name].remedy):
        assert words
        assert words == words.strip().rstrip(".")


def test_two_reasons_do_not_say_the_same() -> None:
    """A report names a reason by its text alone, so one text has one remedy."""
    texts = [reason.text for reason in EVERY.values()]
    assert [text for text in set(texts) if texts.count(text) > 1] == []


def test_reasons_are_made_where_they_are_listed() -> None:
    """Only the two modules of reasons call ``Reason``, so that none is missing in the guide."""
    broken = [
        f"{path.relative_to(ROOT)}, line {node.lineno}"
        for path, tree in TREES.items()
        if path not in HOMES
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name | ast.Attribute)
        and Reason.__name__ == (node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
    ]
    assert broken == []


@pytest.mark.parametrize("name", EVERY)
def test_a_reason_is_given_somewhere(name: str) -> None:
    """Each reason that is listed is given by the code."""
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path, tree in TREES.items()
        if path not in HOMES
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert name in used


def test_every_function_has_an_example() -> None:
    """The examples, by which the guide is checked, leave no function out."""
    assert EVERY.keys() >= MAKERS
