"""Primary keys whose sequence is declared in the model, named, and owned by its column.

``sequence_key("portfolios")`` gives the column. :func:`own_sequences` adds what a ``Sequence``
cannot say about itself, so that ``metadata.create_all()`` leaves the same database as the
migrations do: PostgreSQL's ``OWNED BY``, which drops the sequence along with its column and lets
``pg_get_serial_sequence`` find it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Sequence, Table, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.schema import ExecutableDDLElement

__all__ = ["SetSequenceOwner", "own_sequences", "sequence_key"]


class SetSequenceOwner(ExecutableDDLElement):
    """``ALTER SEQUENCE ... OWNED BY``; without an owner, ``OWNED BY NONE``."""

    inherit_cache = False

    def __init__(self, sequence: Sequence, owner: Column[Any] | None) -> None:
        self.sequence = sequence
        self.owner = owner


@compiles(SetSequenceOwner, "postgresql")
def _compile_set_owner(element: SetSequenceOwner, compiler: Any, **_: Any) -> str:
    preparer = compiler.preparer
    owner = "NONE"
    if element.owner is not None:
        owner = (
            f"{preparer.format_table(element.owner.table)}.{preparer.format_column(element.owner)}"
        )
    return f"ALTER SEQUENCE {preparer.format_sequence(element.sequence)} OWNED BY {owner}"


def sequence_key(table_name: str) -> MappedColumn[int]:
    """Return a bigint primary key fed by the sequence ``<table_name>_id_seq``."""
    sequence = Sequence(f"{table_name}_id_seq", data_type=BigInteger)
    return mapped_column(
        BigInteger,
        sequence,
        # Plain SQL and other languages insert through the column's default.
        server_default=sequence.next_value(),
        primary_key=True,
        sort_order=-1,
    )


def own_sequences(metadata: MetaData) -> None:
    """Make ``create_all()`` and ``drop_all()`` keep each sequence owned by its column."""
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.default, Sequence):
                _own(table, column.default, column)


def _own(table: Table, sequence: Sequence, column: Column[Any]) -> None:
    event.listen(table, "after_create", SetSequenceOwner(sequence, column))
    # SQLAlchemy drops the sequence itself after the table, and would fail if it is gone already.
    event.listen(table, "before_drop", SetSequenceOwner(sequence, None))
