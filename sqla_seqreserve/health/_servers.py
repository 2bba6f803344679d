"""Findings about a sequence whose table other servers fill too (no I/O)."""

from __future__ import annotations

from ._facts import ColumnFacts, SequenceFacts, Synchronisation
from ._names import literal, quoted
from .report import Finding


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
        f"node's largest id, SELECT setval({literal(sequence.label)}, {back})"
    )
    return limit, remedy


def replication(
    sequence: SequenceFacts, column: ColumnFacts | None, gap: int, *, expected: bool
) -> list[Finding]:
    """On a subscriber of a logical replication: why the sequence stays behind its table, or what
    sets it.
    """
    findings = [
        _carried(sequence, each) if each.ready else _not_synchronised(sequence, each)
        for each in sequence.synchronisations
    ]
    subscribed = [c for c in sequence.columns if c.subscribed]
    if gap and subscribed:
        place = column.label if column is not None and column in subscribed else subscribed[0].label
        findings.append(_not_replicated(sequence, place, gap, expected=expected))
    return findings


def _not_replicated(sequence: SequenceFacts, place: str, gap: int, *, expected: bool) -> Finding:
    why = "logical replication does not carry sequences"
    remedy = (
        "repair_sequences() when this server takes over and the old one takes no more writes; "
        "until then pass subscriber=True (--subscriber) to the check, which knows this server's "
        "own rows by track_commit_timestamp"
    )
    if sequence.synchronisations:
        why = "a subscription copies a sequence when it is refreshed, and at no other time"
        remedy = (
            f"when this server takes over: {_take_over(sequence.synchronisations[0])}; until then "
            "pass subscriber=True (--subscriber) to the check"
        )
    elif sequence.replicates_sequences:
        why = f"no subscription carries {sequence.label}"
        remedy += (
            ". Or publish it, FOR ALL SEQUENCES, and ALTER SUBSCRIPTION .. REFRESH PUBLICATION"
        )
    return Finding(
        "NOT_REPLICATED",
        "LOW",
        f"{place} is filled by a subscription, and {why}: {sequence.label} stays where it was, "
        f"{gap} ids behind" + (", as expected on a subscriber" if expected else ""),
        remedy,
    )


def _carried(sequence: SequenceFacts, found: Synchronisation) -> Finding:
    return Finding(
        "REPLICATED",
        "LOW",
        f"the subscription {found.subscription} sets {sequence.label} to its publisher's value, "
        "backwards too, each time that its sequences are refreshed",
        f"when this server takes over: {_take_over(found)}",
    )


def _not_synchronised(sequence: SequenceFacts, found: Synchronisation) -> Finding:
    counted = "" if found.errors is None else f"; it counts {found.errors} errors of its sequences"
    return Finding(
        "NOT_SYNCHRONISED",
        # A sequence that was just added is copied within a moment.
        "LOW" if found.errors == 0 else "MEDIUM",
        f"the subscription {found.subscription} has not copied {sequence.label} from its "
        f"publisher{counted}",
        f"give {sequence.label} the type, start, increment, bounds and CYCLE that it has on the "
        "publisher (the server's log names what differs), then ALTER SUBSCRIPTION "
        f"{quoted(found.subscription)} REFRESH SEQUENCES",
    )


def _take_over(found: Synchronisation) -> str:
    name = quoted(found.subscription)
    return (
        f"stop the publisher's writes, ALTER SUBSCRIPTION {name} REFRESH SEQUENCES, "
        f"DROP SUBSCRIPTION {name}, repair_sequences(), in this order"
    )


def refusal(sequence: SequenceFacts) -> str | None:
    """Say why a repair does not touch the sequence on this server; ``None`` if it does."""
    if sequence.is_foreign:
        return (
            f"{sequence.server} is not PostgreSQL: which ids its other nodes hold in advance "
            "cannot be seen, so a repair could hand out ids twice; move sequences by its own means"
        )
    if sequence.hands_out_nothing:
        return "; ".join(f"{f.message}: {f.remedy}" for f in coordinator_only(sequence))
    return None
