"""Reasons are values that are made in one module; no code compares their texts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from fixtures.reasons import EVERY, MAKERS

from sqla_seqreserve import _reasons
from sqla_seqreserve._reasons import Reason, ReasonFor

HOME = Path(_reasons.__file__)
ROOT = HOME.parent
TREES = {path: ast.parse(path.read_text(), str(path)) for path in sorted(ROOT.rglob("*.py"))}
NAMES = {
    node.id if isinstance(node, ast.Name) else node.attr
    for path, tree in TREES.items()
    if path != HOME
    for node in ast.walk(tree)
    if isinstance(node, ast.Name | ast.Attribute)
}
"""Every name that the code beside the list of reasons uses."""


def called(node: ast.Call) -> str | None:
    """The bare name of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else None


def test_a_reason_is_equal_to_one_that_says_the_same() -> None:
    """Rows are summed up by their reason, so equal reasons have one hash."""
    assert _reasons.no_value("code") == _reasons.no_value("code")
    assert len({_reasons.no_value("code"), _reasons.no_value("code"), _reasons.no_value("id")}) == 2
    assert str(_reasons.no_value("code")) == "code has no value"


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
    """Only the module of reasons calls ``Reason``, so that none is missing in the guide."""
    broken = [
        f"{path.relative_to(ROOT)}, line {node.lineno}"
        for path, tree in TREES.items()
        if path != HOME
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) in {Reason.__name__, ReasonFor.__name__}
    ]
    assert broken == []


@pytest.mark.parametrize("name", EVERY)
def test_a_reason_is_given_somewhere(name: str) -> None:
    """Each reason that is listed is given by the code."""
    assert name in NAMES


def test_every_function_has_an_example() -> None:
    """The examples, by which the guide is checked, leave no function out."""
    assert EVERY.keys() >= MAKERS


def test_a_reason_is_called_with_each_of_its_names() -> None:
    """No type says how many values a reason takes, so every call in the code is counted."""
    broken = [
        f"{path.relative_to(ROOT)}, line {node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(reason := getattr(_reasons, called(node) or "", None), ReasonFor)
        and len(node.args) != len(reason.names)
    ]
    assert broken == []


def test_a_reason_takes_no_other_number_of_values() -> None:
    """A value too many, or too few, is an error and not a text with a hole."""
    with pytest.raises(ValueError, match="shorter"):
        _reasons.no_column("orders")
    with pytest.raises(ValueError, match="longer"):
        _reasons.no_column("orders", "id", "id")
