"""The operations on sequences that result from a comparison, and their places around the tables'
own.

:meth:`Plan.in_order` defines the order; the downgrade is each operation reversed, back to front.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from alembic.operations import MigrateOperation, ops

from ._catalogue import ColumnKey, FoundSequence, SequenceKey
from ._comparison import Comparison
from ._declared import DeclaredSequence
from ._options import compare_options
from .adoption import NothingOp, ResyncSequenceOp
from .operations import AlterSequenceOp, CreateSequenceOp, DropSequenceOp, SequenceChanges

log = logging.getLogger(__name__)


class Plan:
    """The operations on sequences, by their place around the tables' operations."""

    def __init__(self, comparison: Comparison, upgrade_ops: ops.UpgradeOps) -> None:
        self.comparison = comparison
        self.going = _columns_going(upgrade_ops)
        self.adopted = {
            SequenceKey(op.sequence_schema or op.schema, op.sequence): op
            for op in comparison.adoptions.values()
        }
        self.disown: list[MigrateOperation] = []
        self.create: list[MigrateOperation] = []
        # Sequences with the name of an identity's sequence, which an adoption frees.
        self.create_late: list[MigrateOperation] = []
        self.alter: list[MigrateOperation] = []
        self.turned: dict[ColumnKey, SequenceKey] = {}
        self.own: list[MigrateOperation] = []
        self.drop: list[MigrateOperation] = []

    def in_order(self, tables: list[MigrateOperation]) -> list[MigrateOperation]:
        comparison = self.comparison
        return [
            *self.disown,
            *self.create,
            *comparison.adoptions.values(),
            *self.create_late,
            *self._turned_back(),
            *self.alter,
            *self._identities_back(),
            *tables,
            *comparison.releases.values(),
            *self.own,
            *self._resyncs(),
            *self.drop,
        ]

    def _identities_back(self) -> Iterator[MigrateOperation]:
        for where in self.comparison.catalogue.identities:
            if where in self.going.defaults:
                # If a downgrade makes it an identity again, that must not start again at its first
                # value.
                yield NothingOp(where.table, schema=where.schema, way_back=_resync(where, None))

    def _turned_back(self) -> Iterator[MigrateOperation]:
        for where, key in self.turned.items():
            yield NothingOp(where.table, schema=where.schema, way_back=_resync(where, key))

    def _resyncs(self) -> Iterator[MigrateOperation]:
        for where, turned in self.turned.items():
            if where not in self.comparison.resynced and not self.going.frees(where):
                yield _resync(where, turned)
        for where, key in self.comparison.resynced.items():
            # Alembic decides whether a column becomes an identity.
            if key is not None or where in self.going.defaults:
                yield _resync(where, key, before=self._source_before(where))
        for where, key in self.comparison.resynced_back.items():
            yield NothingOp(where.table, schema=where.schema, way_back=_resync(where, key))

    def _source_before(self, where: ColumnKey) -> SequenceKey | None:
        default = self.comparison.catalogue.defaults.get(where)
        return default.sequence if default else None

    def add_declared(self, declared: DeclaredSequence) -> None:
        key = declared.key
        found = self.comparison.renamed.get(key) or self.comparison.catalogue.sequences.get(key)
        adopted = self.adopted.get(key)
        if found is None or found.identity is not None:
            if adopted is None:
                taken = found is not None
                if found is not None and found.owner not in self.comparison.adoptions:
                    log.warning(
                        "Sequence %r is declared, but is an identity's, of '%s'; left alone",
                        str(key),
                        found.owner,
                    )
                    return
                log.info("Detected added sequence %r", str(key))
                made = CreateSequenceOp(key.name, schema=key.schema, options=declared.options)
                (self.create_late if taken else self.create).append(made)
            owner = None
        else:
            owner = found.owner
            changes = compare_options(declared.options, found.options)
            if changes is not None:
                log.info("Detected changed sequence %r: %s", str(key), ", ".join(changes.forward))
                self.alter.append(
                    AlterSequenceOp(
                        key.name,
                        schema=key.schema,
                        changes=SequenceChanges(changes.forward),
                        before=SequenceChanges(changes.backward),
                    )
                )
                if "restart" in changes.forward:
                    # It restarts within other bounds, where earlier rows may have values.
                    self.turned |= dict.fromkeys(self.comparison.numbered_by(declared), key)
        if adopted is None or not adopted.owned:
            self._hand_over(key, owner, declared.owner(owner, exists=found is not None))

    def add_undeclared(self, found: FoundSequence) -> None:
        comparison = self.comparison
        gone = {one.key for one in comparison.renamed.values()} | comparison.dropped
        if (
            found.identity is not None
            or found.of_extension
            or found.key in gone
            or found.key in comparison.serial
            or not comparison.lets_go(found)
        ):
            return
        changed = comparison.adoptions.keys() | comparison.releases.keys()
        users = {
            user
            for user in comparison.catalogue.users(found.key)
            if not self.going.frees(user) and user not in changed
        }
        goes_along = self.going.drops(found.owner)
        if goes_along and users:
            self._hand_over(found.key, found.owner, None)
        elif not users and (goes_along or comparison.marked(found)):
            log.info("Detected removed sequence %r", str(found.key))
            self._hand_over(found.key, found.owner, None)
            made = CreateSequenceOp(
                found.key.name,
                schema=found.key.schema,
                options=found.options.trimmed(),
                tracked=comparison.marked(found),
            )
            self.drop.append(
                DropSequenceOp(found.key.name, schema=found.key.schema, created_by=made)
            )

    def _hand_over(self, key: SequenceKey, old: ColumnKey | None, new: ColumnKey | None) -> None:
        if old == new:
            return
        if old is not None and new is not None:
            log.info(
                "Detected changed owner of sequence %r: '%s' instead of '%s'", str(key), new, old
            )
        for operations, before, after in ((self.disown, old, None), (self.own, None, new)):
            if before != after:
                operations.append(
                    AlterSequenceOp(
                        key.name,
                        schema=key.schema,
                        changes=SequenceChanges({}, owned_by=after and str(after)),
                        before=SequenceChanges({}, owned_by=before and str(before)),
                    )
                )


def _resync(
    where: ColumnKey, key: SequenceKey | None, *, before: SequenceKey | None = None
) -> ResyncSequenceOp:
    return ResyncSequenceOp(
        where.table,
        where.column,
        schema=where.schema,
        sequence=key and key.name,
        sequence_schema=key.schema if key and key.schema != where.schema else None,
        before=before,
    )


def _columns_going(upgrade_ops: ops.UpgradeOps) -> _Going:
    """Return the tables and columns that the operations drop, and the defaults that they change."""
    going = _Going()
    for op in _flat(upgrade_ops.ops):
        if isinstance(op, ops.DropTableOp):
            going.tables.add((op.schema, str(op.table_name)))
        elif isinstance(op, ops.DropColumnOp):
            going.columns.add(ColumnKey(op.schema, str(op.table_name), str(op.column_name)))
        elif isinstance(op, ops.AlterColumnOp) and op.modify_server_default is not False:
            going.defaults.add(ColumnKey(op.schema, str(op.table_name), str(op.column_name)))
    return going


class _Going:
    """Tables and columns that are dropped, and columns whose default is removed."""

    def __init__(self) -> None:
        self.tables: set[tuple[str | None, str]] = set()
        self.columns: set[ColumnKey] = set()
        self.defaults: set[ColumnKey] = set()

    def drops(self, column: ColumnKey | None) -> bool:
        return column is not None and (
            (column.schema, column.table) in self.tables or column in self.columns
        )

    def frees(self, column: ColumnKey) -> bool:
        return self.drops(column) or column in self.defaults


def _flat(operations: list[MigrateOperation]) -> list[MigrateOperation]:
    flat: list[MigrateOperation] = []
    for op in operations:
        flat.extend(_flat(op.ops) if isinstance(op, ops.OpContainer) else [op])
    return flat
