"""Findings about settings that differ from those of the model (no I/O)."""

from __future__ import annotations

from ._facts import ColumnFacts, SequenceFacts, type_bounds
from ._source import Target
from .report import Finding


def shape(sequence: SequenceFacts, target: Target | None) -> list[Finding]:
    """Compare a sequence's settings with the model's. A setting that the model omits may have any
    value, except the step.
    """
    declared = target and (target.sequence or target.identity or target.default_sequence)
    if not declared:
        return []
    findings: list[Finding] = []
    step = declared.increment or 1
    if step != sequence.increment:
        findings.append(
            Finding(
                "INCREMENT_DIFFERS",
                "MEDIUM",
                f"{sequence.label} steps by {sequence.increment}, its model by {step}",
                *_alter_or_model(
                    sequence,
                    f"INCREMENT BY {step}",
                    # A smaller step enters the blocks that other programs make of a larger one, and
                    # another direction leads into existing ids.
                    harmless=step * sequence.increment > 0 and abs(step) > abs(sequence.increment),
                ),
            )
        )
    # Citus starts the sequences of its workers where their numbers begin.
    if declared.start is not None and declared.start != sequence.start and not sequence.node:
        findings.append(
            Finding(
                "START_DIFFERS",
                "MEDIUM",
                f"{sequence.label} starts with {sequence.start}, in its model with "
                f"{declared.start}",
                *_alter_or_model(
                    sequence,
                    f"START WITH {declared.start}",
                    harmless=sequence.minimum <= declared.start <= sequence.maximum,
                ),
            )
        )
    if declared.cycle is not None and declared.cycle != sequence.cycle:
        kinds = ("NO CYCLE", "CYCLE")
        findings.append(
            Finding(
                "CYCLE_DIFFERS",
                "MEDIUM",
                f"{sequence.label} is set to {kinds[sequence.cycle]}, in its model to "
                f"{kinds[declared.cycle]}",
                *_alter_or_model(sequence, kinds[declared.cycle], harmless=not declared.cycle),
            )
        )
    data_type = getattr(declared, "data_type", None)
    if data_type is not None:
        expected = _type_name(data_type.__visit_name__)
        if expected is not None and expected != sequence.data_type:
            findings.append(
                Finding(
                    "TYPE_DIFFERS",
                    "MEDIUM",
                    f"{sequence.label} is of type {sequence.data_type}, in its model {expected}",
                    *_alter_or_model(
                        sequence,
                        f"AS {expected}",
                        harmless=type_bounds(expected)[1] > type_bounds(sequence.data_type)[1],
                    ),
                )
            )
    return findings


def _alter_or_model(
    sequence: SequenceFacts, change: str, *, harmless: bool
) -> tuple[str, str | None]:
    """Return a remedy and its statement: the database is changed only where that does no harm."""
    if not harmless:
        return "change the model", None
    sql = f"ALTER SEQUENCE {sequence.label} {change}"
    return f"{sql}, or change the model", sql


def identity_kind(
    column: ColumnFacts | None, target: Target | None, identity: str
) -> list[Finding]:
    """Compare an identity's kind, ALWAYS or BY DEFAULT, with the model's."""
    if column is None or target is None or target.identity is None or not identity:
        return []
    found = "ALWAYS" if identity == "a" else "BY DEFAULT"
    expected = "ALWAYS" if target.identity.always else "BY DEFAULT"
    if found == expected:
        return []
    place = column.place
    sql = f"ALTER TABLE {column.label} ALTER {column.name} SET GENERATED {expected}"
    return [
        Finding(
            "IDENTITY_DIFFERS",
            "MEDIUM",
            f"{place} is GENERATED {found}, in its model {expected}: the database "
            f"{'refuses' if found == 'ALWAYS' else 'takes'} ids that an INSERT gives",
            f"{sql}, or change the model",
            sql,
        )
    ]


def _type_name(visit_name: str) -> str | None:
    names = {
        "small_integer": "smallint",
        "smallint": "smallint",
        "integer": "integer",
        "big_integer": "bigint",
        "bigint": "bigint",
    }
    return names.get(visit_name.lower())
