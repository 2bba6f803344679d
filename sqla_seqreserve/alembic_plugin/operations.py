"""``op.create_sequence``, ``op.alter_sequence`` and ``op.drop_sequence``.

Each takes the sequence's name first and its schema by keyword, as Alembic's own operations do. An
operation that autogenerate made knows its reverse completely; one that was written by hand knows
only what its arguments say.

:func:`create_sequence` marks the new sequence with a comment that names the version table. Nothing
else distinguishes a sequence that these migrations made from one of a SERIAL column or of another
project, and autogenerate drops only marked ones. ``tracked=False`` omits the mark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Sequence
from sqlalchemy.schema import CreateSequence, DropSequence
from sqlalchemy.types import TypeEngine

from ..errors import ConfigurationError
from . import citus
from ._catalogue import ColumnKey, SequenceKey
from ._ddl import AlterBounds, AlterSequence, CommentOnSequence, option_clauses
from ._options import SequenceOptions, type_name

__all__ = ["AlterSequenceOp", "CreateSequenceOp", "DropSequenceOp", "SequenceChanges", "mark_of"]

IntegerType = TypeEngine[Any] | type[TypeEngine[Any]] | str


def mark_of(context: MigrationContext) -> str:
    """Return the comment by which autogenerate recognizes sequences that the migrations of this
    version table made.
    """
    schema = f"{context.version_table_schema}." if context.version_table_schema else ""
    return f"sqla_seqreserve: made by the migrations of {schema}{context.version_table}"


@Operations.register_operation("create_sequence")
class CreateSequenceOp(MigrateOperation):
    """Create a sequence; its reverse drops it."""

    def __init__(
        self,
        name: str,
        *,
        schema: str | None = None,
        options: SequenceOptions = SequenceOptions(),  # noqa: B008 - frozen
        owned_by: str | None = None,
        if_not_exists: bool | None = None,
        tracked: bool = True,
    ) -> None:
        self.name, self.schema, self.options = name, schema, options
        self.owned_by, self.if_not_exists, self.tracked = owned_by, if_not_exists, tracked

    @classmethod
    def create_sequence(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        data_type: IntegerType | None = None,
        start: int | None = None,
        increment: int | None = None,
        minvalue: int | None = None,
        maxvalue: int | None = None,
        cache: int | None = None,
        cycle: bool | None = None,
        owned_by: str | None = None,
        if_not_exists: bool | None = None,
        tracked: bool = True,
    ) -> None:
        """Create a sequence.

        :param owned_by: the ``"table.column"``, in the same schema, that will own it; the table
            must exist by then. A name with a dot in it goes in double quotes.
        :param tracked: mark it as made by these migrations, so that autogenerate may drop it later.
        """
        options = SequenceOptions(
            type_name(data_type), start, increment, minvalue, maxvalue, cache, cycle
        )
        operations.invoke(
            cls(
                name,
                schema=schema,
                options=options,
                owned_by=owned_by,
                if_not_exists=if_not_exists,
                tracked=tracked,
            )
        )

    def reverse(self) -> DropSequenceOp:
        return DropSequenceOp(self.name, schema=self.schema, created_by=self)

    def to_diff_tuple(self) -> tuple[str, Sequence]:
        return "add_sequence", self.options.to_sequence(self.name, self.schema)


@Operations.register_operation("drop_sequence")
class DropSequenceOp(MigrateOperation):
    """Drop a sequence; its reverse creates it with the options that autogenerate found it with."""

    def __init__(
        self,
        name: str,
        *,
        schema: str | None = None,
        if_exists: bool | None = None,
        created_by: CreateSequenceOp | None = None,
    ) -> None:
        self.name, self.schema, self.if_exists = name, schema, if_exists
        self.created_by = created_by

    @classmethod
    def drop_sequence(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """Drop a sequence. PostgreSQL refuses this while a column default draws from it."""
        operations.invoke(cls(name, schema=schema, if_exists=if_exists))

    def reverse(self) -> CreateSequenceOp:
        return self.created_by or CreateSequenceOp(self.name, schema=self.schema)

    def to_diff_tuple(self) -> tuple[str, Sequence]:
        options = self.created_by.options if self.created_by else SequenceOptions()
        return "remove_sequence", options.to_sequence(self.name, self.schema)


@dataclass(frozen=True, slots=True)
class SequenceChanges:
    """The changes of ``op.alter_sequence``. ``options`` holds only what changes; a bound of
    ``None`` removes it.
    """

    options: dict[str, Any]
    owned_by: str | Literal[False] | None = False
    owner: str | None = None
    name: str | None = None
    schema: str | None = None


@Operations.register_operation("alter_sequence")
class AlterSequenceOp(MigrateOperation):
    """Alter a sequence; its reverse needs to know how it was before, as autogenerate does."""

    def __init__(
        self,
        name: str,
        *,
        schema: str | None = None,
        changes: SequenceChanges,
        before: SequenceChanges | None = None,
    ) -> None:
        self.name, self.schema, self.changes, self.before = name, schema, changes, before

    @classmethod
    def alter_sequence(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        data_type: IntegerType | None = None,
        start: int | None = None,
        restart: int | None = None,
        increment: int | None = None,
        minvalue: int | Literal[False] | None = False,
        maxvalue: int | Literal[False] | None = False,
        cache: int | None = None,
        cycle: bool | None = None,
        owned_by: str | Literal[False] | None = False,
        owner: str | None = None,
        new_name: str | None = None,
        new_schema: str | None = None,
    ) -> None:
        """Alter a sequence; options that are not given stay unchanged.

        The position stays too, unless ``restart`` is given. If a raised ``minvalue`` (or, for a
        descending sequence, a lowered ``maxvalue``) passes the position, it is moved to that bound.

        :param minvalue: ``None`` for ``NO MINVALUE``; ``maxvalue`` likewise.
        :param owned_by: ``"table.column"`` of the same schema, ``None`` for ``OWNED BY NONE``.
        :param owner: the role that will own the sequence.
        :param new_name: rename it. Defaults that draw from it follow.
        :param new_schema: move it. PostgreSQL refuses this for a sequence that a column owns: that
            moves with its table.
        """
        given: dict[str, Any] = {
            "data_type": type_name(data_type),
            "increment": increment,
            "start": start,
            "restart": restart,
            "cache": cache,
            "cycle": cycle,
        }
        options = {key: value for key, value in given.items() if value is not None}
        bounds = {"minvalue": minvalue, "maxvalue": maxvalue}
        options |= {key: value for key, value in bounds.items() if value is not False}
        changes = SequenceChanges(options, owned_by, owner, new_name, new_schema)
        operations.invoke(cls(name, schema=schema, changes=changes))

    def reverse(self) -> AlterSequenceOp:
        before = self.before or SequenceChanges({})
        changes = self.changes
        lacking = sorted(set(changes.options) - set(before.options))
        if lacking or (changes.owned_by is not False and before.owned_by is False):
            what = ", ".join([*lacking, *(["owned_by"] if not lacking else [])])
            raise NotImplementedError(
                f"alter_sequence({self.name!r}) has no reverse: how {what} was before is not known"
            )
        return AlterSequenceOp(
            changes.name or self.name,
            schema=changes.schema or self.schema,
            changes=replace(
                before,
                name=self.name if changes.name else None,
                schema=self.schema if changes.schema else None,
            ),
            before=replace(changes, name=None, schema=None),
        )

    def to_diff_tuple(self) -> tuple[str, SequenceKey, dict[str, Any], dict[str, Any]]:
        before = self.before or SequenceChanges({})
        return (
            "modify_sequence",
            SequenceKey(self.schema, self.name),
            _as_diff(before),
            _as_diff(self.changes),
        )


def _as_diff(changes: SequenceChanges) -> dict[str, Any]:
    owned = {} if changes.owned_by is False else {"owned_by": changes.owned_by}
    rest = {"owner": changes.owner, "new_name": changes.name, "new_schema": changes.schema}
    return {**changes.options, **owned, **{key: value for key, value in rest.items() if value}}


def owner_clause(
    owned_by: str | None, schema: str | None
) -> tuple[str, *tuple[tuple[str, str, str | None], ...]]:
    """Return ``OWNED BY`` as arguments of :class:`~._ddl.AlterSequence`."""
    if owned_by is None:
        return ("OWNED BY NONE",)
    named = ColumnKey.parse(owned_by, schema)
    if named is None:
        raise ConfigurationError(f"owned_by is {owned_by!r}; expected 'table.column' or None")
    return "OWNED BY", (named.table, named.column, schema)


@Operations.implementation_for(CreateSequenceOp)
def _create_sequence(operations: Operations, operation: CreateSequenceOp) -> None:
    sequence = operation.options.to_sequence(operation.name, operation.schema)
    operations.execute(CreateSequence(sequence, if_not_exists=bool(operation.if_not_exists)))
    if operation.tracked:
        operations.execute(CommentOnSequence(sequence, mark_of(operations.migration_context)))
    if operation.owned_by is not None:
        operations.execute(
            AlterSequence(sequence, *owner_clause(operation.owned_by, operation.schema))
        )


@Operations.implementation_for(DropSequenceOp)
def _drop_sequence(operations: Operations, operation: DropSequenceOp) -> None:
    sequence = Sequence(operation.name, schema=operation.schema)
    operations.execute(DropSequence(sequence, if_exists=bool(operation.if_exists)))


@Operations.implementation_for(AlterSequenceOp)
def _alter_sequence(operations: Operations, operation: AlterSequenceOp) -> None:
    sequence = Sequence(operation.name, schema=operation.schema)
    changes = operation.changes
    if changes.options or changes.owned_by is not False:
        citus.require_alterable(
            operations,
            operation.name,
            operation.schema,
            f"alter_sequence({operation.name!r})",
            "Alter it before the table is distributed, or between op.undistribute_table() and "
            "op.distribute_table(); to move it forward there is op.resync_sequence()",
        )
    options = changes.options
    if "restart" not in options and options.keys() & {"minvalue", "maxvalue"}:
        operations.execute(AlterBounds(sequence, options))
    elif options:
        operations.execute(AlterSequence(sequence, option_clauses(options)))
    if changes.owned_by is not False:
        operations.execute(
            AlterSequence(sequence, *owner_clause(changes.owned_by, operation.schema))
        )
    if changes.owner is not None:
        operations.execute(AlterSequence(sequence, "OWNER TO", changes.owner))
    if changes.name is not None:
        operations.execute(AlterSequence(sequence, "RENAME TO", changes.name))
        sequence = Sequence(changes.name, schema=operation.schema)
    if changes.schema is not None:
        operations.execute(AlterSequence(sequence, "SET SCHEMA", changes.schema))
