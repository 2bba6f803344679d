"""``op.adopt_sequence``, ``op.release_sequence`` and ``op.resync_sequence``: a column and the
sequence it draws from.

Adopting makes a named sequence the source of a column that was SERIAL, IDENTITY or bare; releasing
is the reverse. Both keep the position: a SERIAL column's sequence is renamed, an identity's
position is carried over, and a bare column's sequence starts beyond its largest value. So does one
that runs in the other direction than its predecessor, beyond the smallest if it descends. Both lock
the table and the sequence until the transaction ends.

Resyncing moves a sequence beyond the column's values within its bounds, and never back, even if
other sessions draw from it meanwhile. Use it at the end of a data migration that wrote explicit
keys. It locks the table against writers and the sequence against ``nextval()``. PostgreSQL may
abort a session that drew ids before it touched the table, as a deadlock; so give the migration a
``lock_timeout`` on a busy database.
"""

from __future__ import annotations

from alembic.operations import MigrateOperation, Operations, ops
from sqlalchemy import Identity, Sequence

from . import citus
from ._catalogue import SequenceKey
from ._ddl import AlterSequence, CommentOnSequence
from ._options import SequenceOptions, type_name
from ._positions import AdoptColumn, ReleaseColumn, ResyncColumn
from .operations import IntegerType, mark_of

__all__ = [
    "AdoptSequenceOp",
    "AlterIdentityOp",
    "NothingOp",
    "ReleaseSequenceOp",
    "ResyncSequenceOp",
]


@Operations.register_operation("resync_sequence")
class ResyncSequenceOp(MigrateOperation):
    """Move a column's sequence beyond the column's values.

    This cannot be reversed. If the column drew from another sequence before, :attr:`before` names
    it, and the reverse is to resync that one.
    """

    def __init__(
        self,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
        sequence: str | None = None,
        sequence_schema: str | None = None,
        before: SequenceKey | None = None,
    ) -> None:
        self.table_name, self.column_name, self.schema = table_name, column_name, schema
        self.sequence, self.sequence_schema, self.before = sequence, sequence_schema, before

    @classmethod
    def resync_sequence(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
        sequence: str | None = None,
        sequence_schema: str | None = None,
    ) -> None:
        """Move the column's sequence beyond the column's values, under locks, never back.

        :param sequence: its name, for one that is neither owned by the column nor in its default.
        """
        operations.invoke(
            cls(
                table_name,
                column_name,
                schema=schema,
                sequence=sequence,
                sequence_schema=sequence_schema,
            )
        )

    def reverse(self) -> MigrateOperation:
        if self.before is None:
            return NothingOp(self.table_name, schema=self.schema, way_back=self)
        return ResyncSequenceOp(
            self.table_name,
            self.column_name,
            schema=self.schema,
            sequence=self.before.name,
            sequence_schema=self.before.schema if self.before.schema != self.schema else None,
        )

    def to_diff_tuple(self) -> tuple[str, str | None, str, str]:
        return "resync_sequence", self.schema, self.table_name, self.column_name


class NothingOp(ops.ModifyTableOps):
    """An operation that does nothing in one direction and something in the other: Alembic reverses
    operations one by one.
    """

    def __init__(
        self, table_name: str, *, schema: str | None = None, way_back: MigrateOperation
    ) -> None:
        super().__init__(table_name, [], schema=schema)
        self.way_back = way_back

    def reverse(self) -> MigrateOperation:  # type: ignore[override] # Alembic's is for its own kind
        return self.way_back


class AlterIdentityOp(ops.AlterColumnOp):
    """``op.alter_column`` of a column that is an identity before, after, or both.

    Alembic needs both states to write the right SQL, and renders only one: :mod:`.render` adds the
    other.
    """


@Operations.register_operation("adopt_sequence")
class AdoptSequenceOp(MigrateOperation):
    """Let a column that was SERIAL, IDENTITY or bare draw from a named sequence, which it owns."""

    def __init__(
        self,
        table_name: str,
        column_name: str,
        sequence: str,
        *,
        schema: str | None = None,
        sequence_schema: str | None = None,
        options: SequenceOptions = SequenceOptions(),  # noqa: B008 - frozen
        owned: bool = True,
        tracked: bool = True,
        was: ReleaseSequenceOp | None = None,
    ) -> None:
        self.table_name, self.column_name, self.sequence = table_name, column_name, sequence
        self.schema, self.sequence_schema, self.options = schema, sequence_schema, options
        self.owned, self.tracked, self.was = owned, tracked, was

    @classmethod
    def adopt_sequence(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        sequence: str,
        *,
        schema: str | None = None,
        sequence_schema: str | None = None,
        data_type: IntegerType | None = None,
        start: int | None = None,
        increment: int | None = None,
        minvalue: int | None = None,
        maxvalue: int | None = None,
        cache: int | None = None,
        cycle: bool | None = None,
        owned: bool = True,
        tracked: bool = True,
    ) -> None:
        """Make the named sequence the column's source, whatever the source was: SERIAL, IDENTITY or
        none.

        :param owned: let the column own the sequence; ``False`` for one that several columns share.
        :param tracked: mark it as made by these migrations, so that autogenerate may drop it later.
        """
        options = SequenceOptions(
            type_name(data_type), start, increment, minvalue, maxvalue, cache, cycle
        )
        operations.invoke(
            cls(
                table_name,
                column_name,
                sequence,
                schema=schema,
                sequence_schema=sequence_schema,
                options=options,
                owned=owned,
                tracked=tracked,
            )
        )

    def reverse(self) -> ReleaseSequenceOp:
        return self.was or ReleaseSequenceOp(
            self.table_name,
            self.column_name,
            self.sequence,
            schema=self.schema,
            sequence_schema=self.sequence_schema,
            was=self,
        )

    def to_diff_tuple(self) -> tuple[str, str | None, str, str, str]:
        return "adopt_sequence", self.schema, self.table_name, self.column_name, self.sequence


@Operations.register_operation("release_sequence")
class ReleaseSequenceOp(MigrateOperation):
    """Turn a column that drew from a named sequence into a SERIAL, IDENTITY or bare one."""

    def __init__(
        self,
        table_name: str,
        column_name: str,
        sequence: str,
        *,
        schema: str | None = None,
        sequence_schema: str | None = None,
        serial: str | None = None,
        identity: Identity | None = None,
        identity_name: str | None = None,
        keep: bool = False,
        tracked: bool = False,
        was: AdoptSequenceOp | None = None,
    ) -> None:
        self.table_name, self.column_name, self.sequence = table_name, column_name, sequence
        self.schema, self.sequence_schema, self.serial = schema, sequence_schema, serial
        self.identity, self.identity_name, self.keep = identity, identity_name, keep
        self.tracked, self.was = tracked, was

    @classmethod
    def release_sequence(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        sequence: str,
        *,
        schema: str | None = None,
        sequence_schema: str | None = None,
        serial: str | None = None,
        identity: Identity | None = None,
        identity_name: str | None = None,
        keep: bool = False,
        tracked: bool = False,
    ) -> None:
        """Undo :meth:`AdoptSequenceOp.adopt_sequence`; with neither ``serial`` nor ``identity`` the
        column becomes bare.

        :param serial: the name that the sequence gets as that of a SERIAL column again.
        :param identity: the :class:`~sqlalchemy.Identity` that the column becomes; it continues
            from the sequence's position.
        :param identity_name: the name of that identity's own sequence; otherwise PostgreSQL chooses
            one.
        :param keep: leave the sequence in place, because other columns draw from it.
        :param tracked: keep the mark on a sequence that becomes a SERIAL column's again.
        """
        operations.invoke(
            cls(
                table_name,
                column_name,
                sequence,
                schema=schema,
                sequence_schema=sequence_schema,
                serial=serial,
                identity=identity,
                identity_name=identity_name,
                keep=keep,
                tracked=tracked,
            )
        )

    def reverse(self) -> AdoptSequenceOp:
        return self.was or AdoptSequenceOp(
            self.table_name,
            self.column_name,
            self.sequence,
            schema=self.schema,
            sequence_schema=self.sequence_schema,
            owned=not self.keep,
            was=self,
        )

    def to_diff_tuple(self) -> tuple[str, str | None, str, str, str]:
        return "release_sequence", self.schema, self.table_name, self.column_name, self.sequence


@Operations.implementation_for(ResyncSequenceOp)
def _resync_sequence(operations: Operations, operation: ResyncSequenceOp) -> None:
    sequence = None
    if operation.sequence is not None:
        sequence = Sequence(
            operation.sequence, schema=operation.sequence_schema or operation.schema
        )
    if citus.is_distributed(operations, operation.table_name, operation.schema):
        citus.resync_here(
            operations, operation.table_name, operation.column_name, operation.schema, sequence
        )
        return
    operations.execute(
        ResyncColumn(
            operation.table_name, operation.column_name, schema=operation.schema, sequence=sequence
        )
    )


def _require_plain(
    operations: Operations, operation: AdoptSequenceOp | ReleaseSequenceOp, name: str
) -> None:
    citus.require_alterable(
        operations,
        operation.table_name,
        operation.schema,
        f"{name}({operation.table_name!r}, {operation.column_name!r})",
        "Change where its values come from before the table is distributed, or between "
        "op.undistribute_table() and op.distribute_table()",
    )


@Operations.implementation_for(AdoptSequenceOp)
def _adopt_sequence(operations: Operations, operation: AdoptSequenceOp) -> None:
    _require_plain(operations, operation, "adopt_sequence")
    sequence = Sequence(operation.sequence, schema=operation.sequence_schema or operation.schema)
    operations.execute(
        AdoptColumn(
            operation.table_name,
            operation.column_name,
            sequence,
            operation.options,
            schema=operation.schema,
            owned=operation.owned,
        )
    )
    if operation.tracked:
        operations.execute(CommentOnSequence(sequence, mark_of(operations.migration_context)))


@Operations.implementation_for(ReleaseSequenceOp)
def _release_sequence(operations: Operations, operation: ReleaseSequenceOp) -> None:
    _require_plain(operations, operation, "release_sequence")
    schema = operation.sequence_schema or operation.schema
    sequence = Sequence(operation.sequence, schema=schema)
    if operation.serial is not None:
        if operation.serial != operation.sequence:
            operations.execute(AlterSequence(sequence, "RENAME TO", operation.serial))
            sequence = Sequence(operation.serial, schema=schema)
        if not operation.tracked:
            operations.execute(CommentOnSequence(sequence, None))
        return
    identity_name = operation.identity_name
    operations.execute(
        ReleaseColumn(
            operation.table_name,
            operation.column_name,
            sequence,
            schema=operation.schema,
            identity=operation.identity,
            identity_sequence=Sequence(identity_name, schema=operation.schema)
            if identity_name
            else None,
            keep=operation.keep,
        )
    )
