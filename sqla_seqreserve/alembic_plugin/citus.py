"""Migrations on Citus: operations that distribute tables, and early errors for what cannot work.

``op.distribute_table(table, column, ...)``
    Spread the table's rows over the shards by a column, which must be in every key of the table.
``op.reference_table(table, ...)``
    Keep a copy of the table on every node.
``op.undistribute_table(table, ...)``
    The reverse of both.

If the database is not a node of Citus, all three do nothing, so one set of migrations serves both.
They work with ``--sql`` too: decisions that depend on the database are made inside the server.

Migrations run on the coordinator. Of the sequence of a distributed table, Citus allows only the
name and the owner to be altered: :func:`require_alterable` reports this before anything is done.
"""

# Names and literals come quoted by the preparer, and compilers have SQLAlchemy's signature:
# ruff: noqa: ARG001, S608

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy import BigInteger, Column, Connection, MetaData, Sequence, Table, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from sqla_seqreserve._ids.server import IS_CITUS, IS_DISTRIBUTED
from sqla_seqreserve.health import repair_sequences

__all__ = [
    "DistributeTableOp",
    "ReferenceTableOp",
    "UndistributeTableOp",
    "is_distributed",
    "require_alterable",
    "require_coordinator",
    "resync_here",
]

_DISTRIBUTED = text(
    f"""
    SELECT EXISTS (
        SELECT 1 FROM pg_catalog.pg_class c
        WHERE {IS_DISTRIBUTED} AND c.oid IN (
            SELECT to_regclass(:name) UNION ALL
            SELECT d.refobjid FROM pg_catalog.pg_depend d
            WHERE d.objid = to_regclass(:name) AND d.deptype IN ('a', 'i') UNION ALL
            SELECT e.adrelid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_attrdef e ON e.oid = d.objid
            WHERE d.refobjid = to_regclass(:name)))
    """
)
_IS_CITUS = text(f"SELECT {IS_CITUS}")
_GROUP = text("SELECT groupid FROM pg_catalog.pg_dist_local_group")


def require_coordinator(connection: Connection) -> None:
    """Refuse a connection to a worker of Citus.

    :raises CommandError: migrations run on the coordinator.
    """
    if connection.scalar(_IS_CITUS) and connection.scalar(_GROUP):
        raise CommandError(
            "this database is a worker of Citus, and migrations run on the coordinator, which "
            "passes them on: connect there"
        )


def is_distributed(operations: Operations, name: str, schema: str | None) -> bool:
    """Whether the table, or a table that the sequence fills, is distributed over nodes of Citus.

    With ``--sql`` this cannot be known, and the table is treated as a plain one.
    """
    connection = operations.migration_context.connection
    if operations.migration_context.as_sql or connection is None:
        return False
    if connection.dialect.name != "postgresql":
        return False
    quoted = _qualified(connection.dialect.identifier_preparer, name, schema)
    found = bool(connection.scalar(_DISTRIBUTED, {"name": quoted}))
    if found:
        require_coordinator(connection)
    return found


def require_alterable(
    operations: Operations, name: str, schema: str | None, what: str, instead: str
) -> None:
    """Refuse early an operation that Citus would refuse half-way.

    :raises CommandError: ``name`` is distributed; the error says what to do instead.
    """
    if is_distributed(operations, name, schema):
        raise CommandError(
            f"{what}: {name} belongs to a table that Citus distributes, and Citus alters nothing "
            f"of such a sequence but its name and owner. Nothing was done. {instead}"
        )


def resync_here(
    operations: Operations,
    table: str,
    column: str,
    schema: str | None,
    sequence: Sequence | None,
) -> None:
    """``op.resync_sequence`` on a distributed table: the coordinator's sequence, by a repair.

    A worker's sequence numbers in a window of its own; repair it there.
    """
    connection = operations.get_bind()
    fill = (sequence,) if sequence is not None else ()
    model = Table(
        table,
        MetaData(),
        Column(column, BigInteger, *fill, primary_key=True, autoincrement=True),
        schema=schema,
    )
    refused = repair_sequences(connection, model).refusals
    if refused:
        raise CommandError(f"resync_sequence({table!r}, {column!r}): {refused[0].reason}")


class OnCitus(DDLElement):
    """A call of a function of Citus, made only if the database is Citus."""

    def __init__(
        self,
        function: str,
        table: str,
        schema: str | None,
        column: str | None = None,
        **options: Any,
    ) -> None:
        self.function, self.table, self.schema = function, table, schema
        self.column, self.arguments = column, options


class _OnCitusOp(MigrateOperation):
    """The common part of the three operations: a table by name."""

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        self.table_name, self.schema = table_name, schema


@Operations.register_operation("distribute_table")
class DistributeTableOp(_OnCitusOp):
    """Spread a table over shards; its reverse brings it back to the coordinator."""

    def __init__(
        self,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
        colocate_with: str | None = None,
        shard_count: int | None = None,
    ) -> None:
        super().__init__(table_name, schema=schema)
        self.column_name, self.colocate_with = column_name, colocate_with
        self.shard_count = shard_count

    @classmethod
    def distribute_table(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
        colocate_with: str | None = None,
        shard_count: int | None = None,
    ) -> None:
        """Spread the rows by the hash of a column; does nothing if the database is not Citus.

        :param colocate_with: a table, distributed by a column of the same type, whose rows with
            equal values should be on the same node; ``"none"`` for no table.
        """
        operations.invoke(
            cls(
                table_name,
                column_name,
                schema=schema,
                colocate_with=colocate_with,
                shard_count=shard_count,
            )
        )

    def reverse(self) -> UndistributeTableOp:
        return UndistributeTableOp(self.table_name, schema=self.schema)


@Operations.register_operation("reference_table")
class ReferenceTableOp(_OnCitusOp):
    """Keep a copy of a table on every node; its reverse brings it back to the coordinator."""

    @classmethod
    def reference_table(
        cls, operations: Operations, table_name: str, *, schema: str | None = None
    ) -> None:
        """Copy the table to every node; does nothing if the database is not Citus."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> UndistributeTableOp:
        return UndistributeTableOp(self.table_name, schema=self.schema)


@Operations.register_operation("undistribute_table")
class UndistributeTableOp(_OnCitusOp):
    """Turn a table that Citus distributes into a local table of the coordinator."""

    @classmethod
    def undistribute_table(
        cls, operations: Operations, table_name: str, *, schema: str | None = None
    ) -> None:
        """Bring the rows back to the coordinator; does nothing if the database is not Citus.

        Tables connected to it by foreign keys are brought back too (``cascade_via_foreign_keys``).
        """
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> MigrateOperation:
        raise NotImplementedError(
            f"undistribute_table({self.table_name!r}) has no reverse: how the table was "
            "distributed is not known"
        )


@Operations.implementation_for(DistributeTableOp)
def _distribute(operations: Operations, operation: DistributeTableOp) -> None:
    operations.execute(
        OnCitus(
            "create_distributed_table",
            operation.table_name,
            operation.schema,
            operation.column_name,
            colocate_with=operation.colocate_with,
            shard_count=operation.shard_count,
        )
    )


@Operations.implementation_for(ReferenceTableOp)
def _reference(operations: Operations, operation: ReferenceTableOp) -> None:
    operations.execute(OnCitus("create_reference_table", operation.table_name, operation.schema))


@Operations.implementation_for(UndistributeTableOp)
def _undistribute(operations: Operations, operation: UndistributeTableOp) -> None:
    operations.execute(
        OnCitus(
            "undistribute_table",
            operation.table_name,
            operation.schema,
            cascade_via_foreign_keys=True,
        )
    )


@compiles(OnCitus)
def _on_citus(element: OnCitus, compiler: DDLCompiler, **kw: Any) -> str:
    arguments = [_literal(_qualified(compiler.preparer, element.table, element.schema))]
    if element.column is not None:
        arguments.append(_literal(element.column))
    for name, value in element.arguments.items():
        if isinstance(value, bool):
            arguments.append(f"{name} => {str(value).lower()}")
        elif isinstance(value, int):
            arguments.append(f"{name} => {value:d}")
        elif value is not None:
            arguments.append(f"{name} => {_literal(value)}")
    body = (
        f"BEGIN\n    IF {IS_CITUS} THEN\n"
        # A migration's transaction has written to several tables by then.
        "        PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);\n"
        f"        PERFORM {element.function}({', '.join(arguments)});\n    END IF;\nEND"
    )
    return f"DO {_literal(body)}"


def _qualified(preparer: Any, name: str, schema: str | None) -> str:
    quoted: str = preparer.quote(name)
    return f"{preparer.quote_schema(schema)}.{quoted}" if schema else quoted


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
