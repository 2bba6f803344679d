"""Findings about a sequence whose table other servers fill too (no I/O)."""

from __future__ import annotations

from ._facts import ColumnFacts, SequenceFacts
from .report import Finding

__all__ = ["coordinator_only", "not_replicated", "out_of_window", "refusal"]


def coordinator_only(sequence: SequenceFacts) -> list[Finding]:
    """On a worker of Citus: a sequence that only the coordinator may draw from."""
    if not sequence.hands_out_nothing:
        return []
    return [
        Finding(
            "COORDINATOR_ONLY",
            "MEDIUM",
            f"{sequence.label} is of type {sequence.data_type}, and Citus hands out its values on "
            f"the coordinator only; this is the worker of group {sequence.node}",
            "insert through the coordinator; or, to insert on every node, distribute the table "
            "with a bigint column and sequence",
        )
    ]


def out_of_window(sequence: SequenceFacts) -> tuple[str, str] | None:
    """Say that the next value belongs to another node of Citus, if it does, and what to do."""
    if not sequence.node_spent:
        return None
    back = sequence.minimum if sequence.edge is None else sequence.edge
    limit = (
        f"its next value lies beyond {sequence.maximum}, the last of this node (group "
        f"{sequence.node}): what follows belongs to the next node of Citus"
    )
    remedy = (
        "no repair moves a sequence back: while nothing inserts through this node, set it to this "
        f"node's largest id, SELECT setval('{sequence.label}', {back})"
    )
    return limit, remedy


def not_replicated(
    sequence: SequenceFacts, column: ColumnFacts | None, gap: int, *, expected: bool
) -> list[Finding]:
    """On a subscriber of a logical replication: why the sequence stays behind its table."""
    subscribed = [c for c in sequence.columns if c.subscribed]
    if not gap or not subscribed:
        return []
    place = column.label if column is not None and column in subscribed else subscribed[0].label
    return [
        Finding(
            "NOT_REPLICATED",
            "LOW",
            f"{place} is filled by a subscription, and logical replication does not carry "
            f"sequences: {sequence.label} stays where it was, {gap} ids behind"
            + (", as expected on a subscriber" if expected else ""),
            "repair_sequences() when this server takes over and the old one takes no more writes; "
            "until then pass subscriber=True to the check",
        )
    ]


def refusal(sequence: SequenceFacts) -> str | None:
    """Why a repair does not touch the sequence on this server, if it does not."""
    if sequence.is_foreign:
        return (
            f"{sequence.server} is not PostgreSQL: which ids its other nodes hold in advance "
            "cannot be seen, so a repair could hand out ids twice; move sequences by its own means"
        )
    if sequence.hands_out_nothing:
        return "; ".join(f"{f.message}: {f.remedy}" for f in coordinator_only(sequence))
    return None
