"""What the database says about a sequence and the columns it fills, and the arithmetic over it (no
I/O).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqla_seqreserve._ids.server import window_of

from ._names import quoted
from .report import Privileges

_TYPE_BOUNDS = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}


_NUMBERS = frozenset({*_TYPE_BOUNDS, "numeric"})


def type_bounds(type_name: str | None) -> tuple[int, int]:
    """Return the smallest and largest id a column of the type holds; ``numeric`` holds every
    bigint.
    """
    return _TYPE_BOUNDS.get(type_name or "bigint", _TYPE_BOUNDS["bigint"])


@dataclass(frozen=True, slots=True)
class Blindness:
    """Why something cannot be read, or only in part, and the remedy: the privileges, if these
    help.
    """

    reason: str
    remedy: str
    privileges: Privileges | None = None


_BYPASS = "check with a role that its policies let see all rows, or that has BYPASSRLS"
_ON_PRIMARY = "check it on the primary, or ALTER ... SET LOGGED there"


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column that a sequence fills.

    ``computed``: its default calculates its values from the sequence's. ``may_own``: it may become
    the sequence's owner. ``edge`` is its id furthest in the sequence's
    direction, among those that the sequence can hand out. ``kind`` is the relation's relkind.
    ``subscribed``: a subscription of a logical replication writes to the table; then ``local_edge``
    is the furthest id that this server itself wrote, among the newest. ``unlogged``: part of the
    table is unlogged, and this is a standby, which has no copy of that. ``remote``: it is a foreign
    table, or has partitions that are; ``failure``: why reading that failed.
    """

    table_oid: int
    attnum: int
    schema: str
    table: str
    label: str
    column: str
    type_name: str
    owns: bool
    defaults: bool
    readable: bool
    rows_hidden: bool
    parents: frozenset[int]
    computed: bool = False
    may_own: bool = False
    schema_usable: bool = True
    kind: str = "r"
    subscribed: bool = False
    unlogged: bool = False
    remote: bool = False
    failure: str | None = None
    edge: int | None = None
    local_edge: int | None = None

    @property
    def place(self) -> str:
        """The column as SQL names it."""
        return f"{self.label}.{self.name}"

    @property
    def name(self) -> str:
        """The column's name, in quotes where it needs them."""
        return quoted(self.column)

    @property
    def comparable(self) -> bool:
        """Whether its values are the sequence's own: numbers, and not computed from these."""
        return self.type_name in _NUMBERS and not self.computed

    @property
    def has_ids(self) -> bool:
        """Whether its values can be read, and compared with the sequence's."""
        return self.blind is None and self.comparable

    @property
    def blind(self) -> Blindness | None:
        """Why the ids cannot be seen in full, or ``None``."""
        if self.unlogged:
            reason = f"rows of {self.label} are UNLOGGED, and a standby has none of them"
            return Blindness(reason, _ON_PRIMARY)
        if not self.readable:
            lacking = Privileges(
                (self.label,), () if self.schema_usable else (quoted(self.schema),)
            )
            return Blindness(f"the role may not SELECT {self.place}", lacking.remedy, lacking)
        if self.failure is not None:
            reason = f"{self.label} is on another server, and reading it failed: {self.failure}"
            return Blindness(reason, "check again when the role can read it")
        if self.rows_hidden:
            reason = f"row-level security hides rows of {self.label} from the role"
            return Blindness(reason, _BYPASS)
        return None


@dataclass(frozen=True, slots=True)
class Synchronisation:
    """A subscription that carries a sequence: whether it has copied the publisher's value, and its
    number of errors over all its sequences; ``None``: the server does not count them.
    """

    subscription: str
    ready: bool
    errors: int | None


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """A sequence, its settings, its present value, and the columns it fills.

    ``minimum`` and ``maximum`` bound what it can hand out *here*: on a node of Citus at most the
    node's own window, since ids beyond it belong to the next node. ``usable``: the role has USAGE,
    with which it can read the last value, if one was handed out. ``unlogged``: the sequence is
    unlogged, and this is a standby.
    """

    oid: int
    schema: str
    name: str
    label: str
    owner: str
    data_type: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycle: bool
    readable: bool
    usable: bool = False
    schema_usable: bool = True
    unlogged: bool = False
    database: str = ""
    role: str = ""
    server: str = "PostgreSQL"
    replicates_sequences: bool = False
    synchronisations: tuple[Synchronisation, ...] = ()
    is_foreign: bool = False
    is_citus: bool = False
    node: int | None = None
    columns: tuple[ColumnFacts, ...] = ()
    last_value: int | None = None
    is_called: bool = False

    @property
    def mender(self) -> str:
        """Which role may repair it, in words: a GRANT of SELECT is enough for a check only."""
        return (
            f"repair as the role {quoted(self.owner)}, which owns {self.label}, or as a member of "
            "it, with the right to write to its table"
        )

    @property
    def blind(self) -> Blindness | None:
        """Why the sequence's value cannot be read, or ``None``."""
        if self.unlogged:
            reason = f"the sequence {self.label} is UNLOGGED, and a standby does not have it"
            return Blindness(reason, _ON_PRIMARY)
        if self.readable or self.last_value is not None:
            return None
        lacking = Privileges((self.label,), () if self.schema_usable else (quoted(self.schema),))
        if self.usable:
            reason = (
                f"the role may not SELECT the sequence {self.label}, which has handed out nothing "
                "yet, and USAGE shows no more than the last value handed out"
            )
            return Blindness(reason, lacking.remedy, lacking)
        reason = f"the role may not SELECT the sequence {self.label}"
        return Blindness(reason, lacking.remedy, lacking)

    def on_node(self, group: int) -> SequenceFacts:
        """Return this sequence, shared with other nodes of Citus, as the node of this group has
        it.
        """
        window = window_of(group, self.data_type)
        low, high = window or (self.minimum, self.maximum)
        return replace(
            self,
            node=group,
            minimum=max(self.minimum, low),
            maximum=min(self.maximum, high),
        )

    @property
    def hands_out_nothing(self) -> bool:
        """Whether this is a worker of Citus, and the sequence works only on the coordinator."""
        return bool(self.node) and window_of(self.node or 0, self.data_type) is None

    @property
    def node_spent(self) -> bool:
        """Whether the sequence is beyond its node's window, so that its next ids belong to another
        node.
        """
        return (
            self.node is not None
            and self.data_type == "bigint"
            and self.last_value is not None
            and self.next_value is None
        )

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """The smallest and largest id to compare with, ``None`` for a direction without a bound.

        An id that the sequence never reaches conflicts with nothing. The bound at the sequence's
        start matters where other nodes have written.
        """
        ascending = self.increment > 0
        low = self.minimum if self.node is not None or not ascending else None
        high = self.maximum if self.node is not None or ascending else None
        return low, high

    @property
    def next_value(self) -> int | None:
        """What ``nextval`` returns next, ``None`` if it fails (or cannot be known)."""
        if self.last_value is None:
            return None
        value = self.last_value + (self.increment if self.is_called else 0)
        if self.minimum <= value <= self.maximum:
            return value
        if not self.cycle:
            return None
        return self.minimum if self.increment > 0 else self.maximum

    def is_beyond(self, value: int, edge: int) -> bool:
        """Whether a value lies past an id, in the sequence's direction."""
        return value > edge if self.increment > 0 else value < edge

    def furthest(self, edges: tuple[int, ...]) -> int | None:
        """Return the id furthest in the sequence's direction."""
        if not edges:
            return None
        return max(edges) if self.increment > 0 else min(edges)

    @property
    def edge(self) -> int | None:
        """The furthest id over all the columns that were read."""
        return self.furthest(tuple(c.edge for c in self.columns if c.edge is not None))

    @property
    def own_edge(self) -> int | None:
        """The furthest id that this server itself is known to have written; for a table that no
        subscription fills, the furthest of all.
        """
        own = (c.local_edge if c.subscribed else c.edge for c in self.columns)
        return self.furthest(tuple(edge for edge in own if edge is not None))

    def gap_to(self, edge: int | None) -> int:
        """Return how many of the next values are not beyond ``edge``."""
        start = self.next_value
        if start is None or edge is None or self.is_beyond(start, edge):
            return 0
        return abs(edge - start) // abs(self.increment) + 1

    def room_beyond(self, edge: int | None) -> int:
        """Return how many values beyond ``edge`` the sequence has that every column can hold."""
        start = self.next_value
        if start is None:
            return 0
        step = self.increment
        first = start + self.gap_to(edge) * step
        bounds = [type_bounds(c.type_name) for c in self.columns]
        end = (
            min([self.maximum, *(high for _, high in bounds)])
            if step > 0
            else max([self.minimum, *(low for low, _ in bounds)])
        )
        return max(0, (end - first) // step + 1)

    def ids_left(self, column: ColumnFacts | None) -> int | None:
        """Return how many values beyond all ids it has that the column can hold.

        ``None``: it cannot be known, or there is no end.
        """
        if self.last_value is None or self.hands_out_nothing or self.cycle:
            return None
        here = self.columns if column is None else (column,)
        return replace(self, columns=here).room_beyond(self.edge)

    def value_after(self, count: int) -> int | None:
        """Return the last of the next ``count`` values, ``None`` if the sequence ends before it."""
        start = self.next_value
        if start is None:
            return None
        value = start + (count - 1) * self.increment
        return value if self.minimum <= value <= self.maximum else None

    def used_fraction(self, column: ColumnFacts | None) -> float | None:
        """Return the share consumed of the values that the sequence and the column's type allow."""
        if self.last_value is None:
            return None
        type_low, type_high = type_bounds(column.type_name if column else None)
        low, high = max(self.minimum, type_low), min(self.maximum, type_high)
        if self.increment > 0:
            low = max(low, min(self.start, high))
        else:
            high = min(high, max(self.start, low))
        used = [self.last_value] if self.is_called else []
        if self.edge is not None:
            used.append(self.edge)
        furthest = self.furthest(tuple(used))
        if furthest is None:
            return 0.0
        consumed = furthest - low + 1 if self.increment > 0 else high - furthest + 1
        return min(1.0, max(0.0, consumed / max(1, high - low + 1)))
