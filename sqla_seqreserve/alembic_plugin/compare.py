"""What autogenerate finds out about sequences: three comparators, and the order of what they find.

:func:`compare_column` decides where a column's values come from, before Alembic's own comparators
see its default, and after the user's ``compare_server_default``. :func:`restore_defaults` gives
reflected tables that are about to go the defaults that Alembic takes away from them, so that a
downgrade brings them back. :func:`compare_sequences` comes last and puts its operations around
those of the tables::

    disown, create, adopt, alter    …tables, columns, constraints…    release, own, resync, drop

Reversed one by one and back to front, that is a downgrade in an order that works too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Identity, Sequence, Table, text
from sqlalchemy.schema import DefaultClause

from .._host import copy_column
from ._catalogue import ColumnKey, FoundSequence, SequenceKey
from ._comparison import Comparison, columns_going
from ._declared import DeclaredSequence
from ._options import compare_options
from .adoption import AlterIdentityOp, NothingOp, ResyncSequenceOp
from .operations import AlterSequenceOp, CreateSequenceOp, DropSequenceOp, SequenceChanges

__all__ = ["compare_column", "compare_sequences", "compare_unasked", "restore_defaults", "setup"]

log = logging.getLogger(__name__)

CONTINUE, STOP = PriorityDispatchResult.CONTINUE, PriorityDispatchResult.STOP


def compare_column(
    context: AutogenContext,
    op: ops.AlterColumnOp,
    schema: str | None,
    table_name: str,
    column_name: str,
    found: Column[Any],  # noqa: ARG001 - Alembic's signature
    declared: Column[Any],
) -> PriorityDispatchResult:
    """Compare where the column's values come from; leave every other default to Alembic."""
    comparison = Comparison.of(context)
    where = ColumnKey(schema, str(table_name), str(column_name))
    comparison.compared.add(where)
    server = comparison.declared.server_sequence(declared)
    want = server or comparison.declared.client_sequence(declared)
    default = comparison.catalogue.defaults.get(where)
    if default is not None:
        # Alembic takes the default of a column that owns its sequence for SERIAL, and hides it.
        op.existing_server_default = DefaultClause(text(default.expression))
        if not default.exact:
            if server is None:
                return CONTINUE
            # Alembic would compare by calling nextval(), and might even find both equal.
            op.modify_server_default = declared.server_default
            return STOP
    have = comparison.catalogue.sequences.get(default.sequence) if default else None
    if want is not None:
        declaration = comparison.declared.sequences.get(want)
        if declaration is not None and not comparison.in_scope(declaration):
            return CONTINUE
        return _draws_from(comparison, op, where, declared, want, have, on_server=bool(server))
    if declared.identity is not None:
        if have is None:
            if where not in comparison.catalogue.identities:
                comparison.resync(where, declared, None)
            return CONTINUE
        comparison.release_to_identity(where, have, declared.identity)
        return STOP
    return _draws_from_none(comparison, op, where, declared, have)


def _draws_from(
    comparison: Comparison,
    op: ops.AlterColumnOp,
    where: ColumnKey,
    column: Column[Any],
    want: SequenceKey,
    have: FoundSequence | None,
    *,
    on_server: bool,
) -> PriorityDispatchResult:
    """The metadata names a sequence for the column."""
    if have is not None and have.key == want:
        return STOP
    identity = comparison.catalogue.identities.get(where)
    if identity is not None:
        comparison.adopt_identity(where, identity, want)
        return STOP
    if have is not None and comparison.can_rename(where, have, want):
        comparison.adopt_serial(where, have, want)
        return STOP
    if on_server:
        op.modify_server_default = column.server_default
    if on_server or not comparison.exists(want):
        comparison.resync(where, column, want)
    return STOP if on_server else CONTINUE


def _draws_from_none(
    comparison: Comparison,
    op: ops.AlterColumnOp,
    where: ColumnKey,
    column: Column[Any],
    have: FoundSequence | None,
) -> PriorityDispatchResult:
    """The metadata names no sequence: a SERIAL column, a bare one, or one with another default."""
    asked = comparison.context.opts.get("compare_server_default") is not False
    serial = column.table.autoincrement_column is column and column.server_default is None
    identity = comparison.catalogue.identities.get(where)
    if have is None:
        if identity is None or not serial or not asked:
            return CONTINUE
        # The metadata wants a SERIAL column; the identity's sequence becomes that of one.
        comparison.adopt_identity(where, identity, identity.key, tracked=False)
        return STOP
    if serial:
        return STOP
    if not isinstance(column.server_default, DefaultClause | None):
        return CONTINUE
    ours = comparison.marked(have)
    if column.server_default is None and have.owner == where and not ours:
        # SERIAL made by others: Alembic leaves it alone, and so do we.
        return STOP
    if ours or asked:
        op.modify_server_default = column.server_default
        comparison.resync_back(where, column, have.key)
    return STOP


def compare_unasked(
    context: AutogenContext, op: ops.AlterColumnOp, *args: Any
) -> PriorityDispatchResult:
    """Compare sequences also where ``compare_server_default`` is off, as it is unless ``env.py``
    asks for it.
    """
    schema, table_name, column_name, *_ = args
    where = ColumnKey(schema, str(table_name), str(column_name))
    if (
        context.opts.get("compare_server_default", False) is False
        and where not in Comparison.of(context).compared
    ):
        compare_column(context, op, *args)
    return CONTINUE


def restore_defaults(
    context: AutogenContext,
    modify_ops: ops.ModifyTableOps,  # noqa: ARG001 - Alembic's signature
    schema: str | None,
    table_name: str,
    found: Table | None,
    declared: Table | None,
) -> PriorityDispatchResult:
    """Give columns that are about to go the default back that Alembic hid, for the downgrade to
    make them with.
    """
    if found is None:
        return CONTINUE
    comparison = Comparison.of(context)
    staying = set() if declared is None else {column.name for column in declared.columns}
    for column in found.columns:
        default = comparison.catalogue.defaults.get(ColumnKey(schema, str(table_name), column.name))
        if default is None or not default.exact or column.name in staying:
            continue
        sequence = comparison.catalogue.sequences[default.sequence]
        if declared is None and comparison.comes_back_as_serial(column, sequence):
            comparison.serial.add(sequence.key)
            continue
        column.server_default = DefaultClause(text(default.expression))
        column.autoincrement = False
    return CONTINUE


def compare_sequences(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Compare the sequences themselves, and put everything found in order around the tables'
    operations.
    """
    comparison = Comparison.of(context)
    if comparison.finished:
        # The plugin may be registered under two names.
        return CONTINUE
    comparison.finished = True
    _keep_serial_away(upgrade_ops)
    _keep_identities(upgrade_ops)
    plan = _Plan(comparison, upgrade_ops)
    for declared in comparison.declared:
        if comparison.in_scope(declared):
            plan.add_declared(declared)
    for found in comparison.catalogue.sequences.values():
        if found.key not in comparison.declared and found.key.schema in schemas:
            plan.add_undeclared(found)
    upgrade_ops.ops[:] = plan.in_order(upgrade_ops.ops)
    return CONTINUE


class _Plan:
    """The operations on sequences, by their place around the tables' operations."""

    def __init__(self, comparison: Comparison, upgrade_ops: ops.UpgradeOps) -> None:
        self.comparison = comparison
        self.going = columns_going(upgrade_ops)
        self.adopted = {
            SequenceKey(op.sequence_schema or op.schema, op.sequence): op
            for op in comparison.adoptions.values()
        }
        self.disown: list[MigrateOperation] = []
        self.create: list[MigrateOperation] = []
        # Under the name of an identity's sequence, which an adoption sets free.
        self.create_late: list[MigrateOperation] = []
        self.alter: list[MigrateOperation] = []
        self.own: list[MigrateOperation] = []
        self.drop: list[MigrateOperation] = []

    def in_order(self, tables: list[MigrateOperation]) -> list[MigrateOperation]:
        comparison = self.comparison
        return [
            *self.disown,
            *self.create,
            *comparison.adoptions.values(),
            *self.create_late,
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
                # Should a downgrade make it an identity again, then not one that starts afresh.
                yield NothingOp(where.table, schema=where.schema, way_back=_resync(where, None))

    def _resyncs(self) -> Iterator[MigrateOperation]:
        for where, key in self.comparison.resynced.items():
            # Whether a column becomes an identity is Alembic's decision.
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


def _keep_serial_away(upgrade_ops: ops.UpgradeOps) -> None:
    """Say ``autoincrement=False`` where a rendered table would lose its ``Sequence`` and turn
    SERIAL instead.
    """
    for op in upgrade_ops.ops:
        if not isinstance(op, ops.CreateTableOp):
            continue
        op.columns = [
            _not_serial(item) if isinstance(item, Column) else item for item in op.columns
        ]


def _keep_identities(container: ops.OpContainer) -> None:
    """Let a column's change to, from or of an identity be rendered with what it was before."""
    for index, op in enumerate(container.ops):
        if isinstance(op, ops.OpContainer):
            _keep_identities(op)
        elif isinstance(op, ops.AlterColumnOp) and _alters_identity(op):
            altered = AlterIdentityOp(op.table_name, op.column_name)
            altered.__dict__.update(op.__dict__)
            container.ops[index] = altered


def _alters_identity(op: ops.AlterColumnOp) -> bool:
    after, before = op.modify_server_default, op.existing_server_default
    return after is not False and (isinstance(after, Identity) or isinstance(before, Identity))


def _not_serial(column: Column[Any]) -> Column[Any]:
    default = column.default
    if not column.primary_key or not isinstance(default, Sequence) or default.optional:
        return column
    # The metadata's own column must stay as it is.
    copy = copy_column(column)
    copy.autoincrement = False
    return copy


def setup(plugin: Any) -> None:
    """Register the comparators with an Alembic :class:`~alembic.runtime.plugins.Plugin`."""
    # MEDIUM with a qualifier: after the user's compare_server_default, before Alembic's own
    # comparators of that
    # group, one of which fails an assertion on a nextval() default where the metadata has an
    # identity.
    plugin.add_autogenerate_comparator(
        compare_column, "column", "server_default", qualifier="postgresql"
    )
    plugin.add_autogenerate_comparator(
        compare_unasked,
        "column",
        "sequences",
        qualifier="postgresql",
        priority=DispatchPriority.LAST,
    )
    plugin.add_autogenerate_comparator(
        restore_defaults, "table", "sequences", qualifier="postgresql"
    )
    plugin.add_autogenerate_comparator(
        compare_sequences,
        "schema",
        "sequences",
        qualifier="postgresql",
        priority=DispatchPriority.LAST,
    )
