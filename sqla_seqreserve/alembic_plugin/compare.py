"""How autogenerate compares sequences: three comparators, and the order of the operations they
find.

:func:`compare_column` decides where a column's values come from, before Alembic's own comparators
see its default, and after the user's ``compare_server_default``. :func:`restore_defaults` restores
defaults that Alembic removes from reflected tables that will be dropped, so that a downgrade
recreates them. :func:`compare_sequences` comes last and puts its operations around those of the
tables::

    disown, create, adopt, alter    …tables, columns, constraints…    release, own, resync, drop

Reversed one by one and back to front, that is a downgrade in an order that works too.
"""

from __future__ import annotations

from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Identity, Sequence, Table, text
from sqlalchemy.schema import DefaultClause

from .._sqlalchemy.mapping import copy_column
from ._catalogue import ColumnKey, FoundSequence, SequenceKey
from ._comparison import Comparison
from ._plan import Plan
from .adoption import AlterIdentityOp

__all__ = ["compare_column", "compare_sequences", "compare_unasked", "restore_defaults", "setup"]

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
        # Alembic treats the default of a column that owns its sequence as SERIAL, and hides it.
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
    """Handle a column for which the metadata names a sequence."""
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
    """Handle a column for which the metadata names no sequence: SERIAL, bare, or with another
    default.
    """
    asked = comparison.context.opts.get("compare_server_default") is not False
    serial = column.table.autoincrement_column is column and column.server_default is None
    identity = comparison.catalogue.identities.get(where)
    if have is None:
        if identity is None or not serial or not asked:
            return CONTINUE
        # The metadata has a SERIAL column; the identity's sequence becomes that column's.
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
    """Compare sequences even if ``compare_server_default`` is off, as it is unless ``env.py`` sets
    it.
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
    """Restore the default that Alembic hid for columns that will be dropped, so that the downgrade
    recreates it.
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
    """Compare the sequences themselves, and order all operations found around those of the
    tables.
    """
    comparison = Comparison.of(context)
    if comparison.finished:
        # The plugin may be registered under two names.
        return CONTINUE
    comparison.finished = True
    _keep_serial_away(upgrade_ops)
    _keep_identities(upgrade_ops)
    plan = Plan(comparison, upgrade_ops)
    for declared in comparison.declared:
        if comparison.in_scope(declared):
            plan.add_declared(declared)
    for found in comparison.catalogue.sequences.values():
        if found.key not in comparison.declared and found.key.schema in schemas:
            plan.add_undeclared(found)
    upgrade_ops.ops[:] = plan.in_order(upgrade_ops.ops)
    return CONTINUE


def _keep_serial_away(upgrade_ops: ops.UpgradeOps) -> None:
    """Set ``autoincrement=False`` where a rendered table would lose its ``Sequence`` and become
    SERIAL instead.
    """
    for op in upgrade_ops.ops:
        if not isinstance(op, ops.CreateTableOp):
            continue
        op.columns = [
            _not_serial(item) if isinstance(item, Column) else item for item in op.columns
        ]


def _keep_identities(container: ops.OpContainer) -> None:
    """Render a column's change to, from or of an identity together with its previous state."""
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
    # comparators of that group, one of which fails an assertion on a nextval() default where the
    # metadata has an identity.
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
