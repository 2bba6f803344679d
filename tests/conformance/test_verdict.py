"""The rules by which a conformance run fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from .results import Results, TestResult, read_results
from .verdict import judge, parse_exceptions

TEST = "test/orm/test_cycles.py::CycleTest::test_one"
OTHER = "test/orm/test_cycles.py::CycleTest::test_two"


def side(
    outcomes: dict[str, str], *, rows: dict[str, int] | None = None, complete: bool = True
) -> Results:
    return Results(
        tests={test: TestResult(outcome, 0.1, "why") for test, outcome in outcomes.items()},
        rows={"copy": 5} if rows is None else rows,
        reasons={},
        seconds=1.0,
        complete=complete,
    )


def test_a_run_that_loses_nothing_is_good() -> None:
    """Tests that pass on both sides, or fail on both, do not fail the run."""
    outcomes = {TEST: "passed", OTHER: "failed"}

    verdict = judge(side(outcomes), side(outcomes), {})

    assert verdict.ok
    assert (verdict.plain_passed, verdict.ours_passed, verdict.lost) == (1, 1, {})


@pytest.mark.parametrize("outcome", ["failed", "skipped", "error"])
def test_a_test_that_only_plain_passes_is_lost(outcome: str) -> None:
    """A test that passes only on plain SQLAlchemy is lost if it fails or is skipped, and the
    message says why.
    """
    verdict = judge(side({TEST: "passed"}), side({TEST: outcome}), {})

    assert not verdict.ok
    assert verdict.lost == {TEST: "why"}


def test_a_test_that_did_not_run_is_lost() -> None:
    """A test that did not run on this package's side is lost."""
    verdict = judge(side({TEST: "passed", OTHER: "passed"}), side({OTHER: "passed"}), {})

    assert verdict.lost == {TEST: "did not run"}


def test_a_test_that_only_we_pass_is_gained() -> None:
    """A test that passes only with this package is reported, and does not fail the run."""
    verdict = judge(
        side({TEST: "passed", OTHER: "failed"}), side({TEST: "passed", OTHER: "passed"}), {}
    )

    assert verdict.ok
    assert verdict.gained == (OTHER,)


def test_a_run_without_a_row_by_copy_fails() -> None:
    """A run in which COPY wrote no row fails, because it proves nothing."""
    outcomes = {TEST: "passed"}

    verdict = judge(side(outcomes), side(outcomes, rows={"orm": 7, "insert": 2}), {})

    assert not verdict.ok
    assert "COPY took no rows" in "\n".join(verdict.lines())


@pytest.mark.parametrize(("plain", "ours"), [(False, True), (True, False)])
def test_a_run_that_died_fails(plain: bool, ours: bool) -> None:
    """If a side did not run to its end, the run fails, also if no test was lost before."""
    outcomes = {TEST: "passed"}

    verdict = judge(side(outcomes, complete=plain), side(outcomes, complete=ours), {})

    assert not verdict.ok


def test_a_run_in_which_plain_passes_nothing_fails() -> None:
    """If plain SQLAlchemy passes no test, the run fails, because it proves nothing."""
    assert not judge(side({TEST: "failed"}), side({TEST: "failed"}), {}).ok


def test_a_listed_exception_may_be_lost() -> None:
    """A lost test that is a listed exception is reported with its reason, and does not fail the
    run.
    """
    verdict = judge(side({TEST: "passed"}), side({TEST: "failed"}), {TEST: "an internal"})

    assert verdict.ok
    assert verdict.excepted == {TEST: "an internal"}


@pytest.mark.parametrize(
    ("plain", "ours", "found"),
    [
        ({TEST: "passed"}, {TEST: "passed"}, "it passes"),
        ({TEST: "failed"}, {TEST: "failed"}, "plain SQLAlchemy does not pass it either"),
        ({OTHER: "passed"}, {OTHER: "passed"}, "there is no such test"),
    ],
)
def test_a_listed_exception_that_is_none_fails(
    plain: dict[str, str], ours: dict[str, str], found: str
) -> None:
    """A listed exception that is not needed fails the run, so that the list stays true."""
    verdict = judge(side(plain), side(ours), {TEST: "an internal"})

    assert not verdict.ok
    assert verdict.stale == {TEST: found}


@pytest.mark.parametrize("selected", [True, False])
def test_a_listed_exception_outside_the_run_is_left_alone(selected: bool) -> None:
    """A listed exception in a file that did not run, or that -k left out, does not fail the run."""
    outcomes = {OTHER: "passed"}
    listed = {TEST if selected else "test/orm/test_other.py::OtherTest::test": "an internal"}

    assert judge(side(outcomes), side(outcomes), listed, selected=selected).ok


def test_an_exception_may_be_for_one_line_of_sqlalchemy() -> None:
    """An exception with ``sqlalchemy`` applies to that release line only, and one without
    to all.
    """
    text = f"""
        [[exception]]
        test = "{TEST}"
        reason = "everywhere"
        [[exception]]
        test = "{OTHER}"
        reason = "new in 2.1"
        sqlalchemy = "2.1"
    """

    assert parse_exceptions(text, "2.1.9") == {TEST: "everywhere", OTHER: "new in 2.1"}
    assert parse_exceptions(text, "2.0.58") == {TEST: "everywhere"}


def test_results_do_without_the_name_of_the_backend(tmp_path: Path) -> None:
    """SQLAlchemy adds the server's version to test classes; results are compared without it."""
    (tmp_path / "results.jsonl").write_text(
        '{"kind": "test", "test": "test/orm/test_x.py::XTest_postgresql+psycopg_18_6::test_y[a-b]",'
        ' "outcome": "passed", "seconds": 0.2, "message": "", "rows": {"copy": 3}, "reasons": {}}\n'
        '{"kind": "end", "seconds": 2.5, "rows": {"copy": 1}, "reasons": {"orm: why": 4}}\n'
    )

    results = read_results(tmp_path)

    assert results.passed() == {"test/orm/test_x.py::XTest::test_y[a-b]"}
    assert (results.rows, results.reasons) == ({"copy": 4}, {"orm: why": 4})
    assert (results.seconds, results.complete) == (2.5, True)


@pytest.mark.parametrize(
    ("version", "listed"), [("2.0.8", True), ("2.0.27", True), ("2.0.28", False), ("2.1.0", False)]
)
def test_an_exception_may_end_with_a_release(version: str, listed: bool) -> None:
    """An exception with ``before`` applies to older releases only."""
    text = '[[exception]]\ntest = "t"\nreason = "r"\nbefore = "2.0.28"\n'
    assert (parse_exceptions(text, version) == {"t": "r"}) is listed
