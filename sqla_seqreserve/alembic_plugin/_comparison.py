"""One comparison of metadata and database: the contents of both, and what the column comparators
found.

The comparators of :mod:`.compare` are called for one table and one column at a time, and share this
object.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Column, Identity, Integer, Numeric, Table

from ..errors import ConfigurationError
from ._catalogue import Catalogue, ColumnKey, FoundSequence, SequenceKey
from ._declared import Declarations, DeclaredSequence
from .adoption import AdoptSequenceOp, ReleaseSequenceOp
from .citus import require_coordinator
from .operations import mark_of


class Comparison:
    """Metadata and database, and the columns whose source of values changes."""

    def __init__(self, context: AutogenContext) -> None:
        if context.connection is None or context.metadata is None:
            raise ConfigurationError("comparing sequences needs a connection and a target_metadata")
        require_coordinator(context.connection)
        self.context = context
        self.mark = mark_of(context.migration_context)
        self.catalogue = Catalogue.read(context.connection)
        self.declared = Declarations(
            context.metadata, context.connection.dialect.default_schema_name
        )
        self.adoptions: dict[ColumnKey, AdoptSequenceOp] = {}
        self.releases: dict[ColumnKey, ReleaseSequenceOp] = {}
        self.renamed: dict[SequenceKey, FoundSequence] = {}
        self.dropped: set[SequenceKey] = set()
        self.resynced: dict[ColumnKey, SequenceKey | None] = {}
        self.resynced_back: dict[ColumnKey, SequenceKey] = {}
        self.serial: set[SequenceKey] = set()
        self.compared: set[ColumnKey] = set()
        self.finished = False
        self._in_scope: dict[SequenceKey, bool] = {}

    @classmethod
    def of(cls, context: AutogenContext) -> Comparison:
        """Return the comparison that belongs to the context; it reads the catalogue on first
        access.
        """
        comparison = _comparisons.get(context)
        if comparison is None:
            comparison = _comparisons[context] = cls(context)
        return comparison

    def marked(self, found: FoundSequence) -> bool:
        """Whether these migrations once made the sequence."""
        return found.comment == self.mark

    def exists(self, key: SequenceKey) -> bool:
        return key in self.catalogue.sequences

    def in_scope(self, declared: DeclaredSequence) -> bool:
        """Whether the filters of ``env.py`` include the declared sequence."""
        if declared.key not in self._in_scope:
            self._in_scope[declared.key] = self._passes(declared)
        return self._in_scope[declared.key]

    def _passes(self, declared: DeclaredSequence) -> bool:
        context, key = self.context, declared.key
        if not context.run_name_filters(key.name, "sequence", {"schema_name": key.schema}):  # type: ignore[arg-type] # Alembic does not list "sequence"
            return False
        found = self.catalogue.sequences.get(key)
        reflected = found.options.to_sequence(key.name, key.schema) if found else None
        if not context.run_object_filters(
            declared.sequence,
            key.name,
            "sequence",  # type: ignore[arg-type] # Alembic does not list "sequence"
            False,
            reflected,
        ):
            return False
        tables = [self.declared.tables[user] for user in declared.users]
        return not tables or any(
            context.run_object_filters(table, table.name, "table", False, None) for table in tables
        )

    def lets_go(self, found: FoundSequence) -> bool:
        """Whether the filters of ``env.py`` include a sequence that the metadata does not
        declare.
        """
        key = found.key
        reflected = found.options.to_sequence(key.name, key.schema)
        return self.context.run_name_filters(
            key.name,
            "sequence",  # type: ignore[arg-type] # Alembic does not list "sequence"
            {"schema_name": key.schema},
        ) and self.context.run_object_filters(
            reflected,
            key.name,
            "sequence",  # type: ignore[arg-type] # Alembic does not list "sequence"
            True,
            None,
        )

    def comes_back_as_serial(self, column: Column[int], found: FoundSequence) -> bool:
        """Whether creating the reflected table again would create this very sequence, as part of a
        SERIAL column.
        """
        table: Table = column.table
        if found.comment is not None or table.autoincrement_column is not column:
            return False
        default = found.options.__class__(data_type=found.options.data_type)
        name = f"{table.name}_{column.name}_seq"
        size = {"SMALLINT": "smallint", "INTEGER": "integer", "BIGINT": "bigint"}
        return (
            found.key == SequenceKey(self.declared.normal_schema(table.schema), name)
            and len(name) < _NAME_LENGTH
            and found.options == default.filled()
            and found.options.data_type == size.get(type(column.type).__name__)
            and len(self.catalogue.users(found.key)) == 1
        )

    def numbered_by(self, declared: DeclaredSequence) -> set[ColumnKey]:
        """The existing columns of numbers that draw from the sequence, now or by declaration."""
        found = {
            where
            for where in self.catalogue.users(declared.key)
            if self.catalogue.defaults[where].of_number
        }
        return found | {
            where
            for where in declared.users & self.compared
            if isinstance(self.declared.tables[where].c[where.column].type, Integer | Numeric)
        }

    # How a column's source changes.

    def adopt_identity(
        self, where: ColumnKey, identity: FoundSequence, key: SequenceKey, *, tracked: bool = True
    ) -> None:
        """Let the identity column draw from the named sequence, from the identity's position on."""
        declared = self.declared.sequences.get(key)
        fresh = key == identity.key or not self.exists(key)
        first = fresh and key not in {_sequence_key(op) for op in self.adoptions.values()}
        owned = declared is None or (fresh and declared.owner(None, exists=False) == where)
        options = identity.options.trimmed() if declared is None else declared.options
        adopt = AdoptSequenceOp(
            where.table,
            where.column,
            key.name,
            schema=where.schema,
            sequence_schema=key.schema if key.schema != where.schema else None,
            options=options,
            owned=owned,
            tracked=tracked and first,
        )
        given = identity.options.trimmed().given()
        given.pop("data_type", None)
        adopt.was = ReleaseSequenceOp(
            where.table,
            where.column,
            key.name,
            schema=where.schema,
            sequence_schema=adopt.sequence_schema,
            identity=Identity(always=identity.identity == "always", **given),
            identity_name=identity.key.name,
            keep=not first,
            was=adopt,
        )
        self.adoptions[where] = adopt

    def can_rename(self, where: ColumnKey, found: FoundSequence, key: SequenceKey) -> bool:
        """Whether the column's own sequence may become the named one: no other column uses
        either.
        """
        declared = self.declared.sequences.get(key)
        return (
            declared is not None
            and found.owner == where
            and found.key not in self.declared
            and self.catalogue.users(found.key) == {where}
            and not self.exists(key)
            and declared.users == {where}
            and not declared.never_owned
            and declared.owner(where, exists=True) == where
            and key.schema == found.key.schema
        )

    def adopt_serial(self, where: ColumnKey, found: FoundSequence, key: SequenceKey) -> None:
        """Give the column's own sequence the declared name; it keeps its position."""
        adopt = AdoptSequenceOp(
            where.table,
            where.column,
            key.name,
            schema=where.schema,
            tracked=found.comment is None,
        )
        adopt.was = ReleaseSequenceOp(
            where.table,
            where.column,
            key.name,
            schema=where.schema,
            serial=found.key.name,
            tracked=found.comment is not None,
            was=adopt,
        )
        self.adoptions[where] = adopt
        self.renamed[key] = found

    def release_to_identity(
        self, where: ColumnKey, found: FoundSequence, identity: Identity
    ) -> None:
        """Turn the column into an identity that continues from its sequence's position."""
        own = found.owner == where or (found.owner is None and self.marked(found))
        keep = not own or found.key in self.declared or self.catalogue.users(found.key) != {where}
        sequence_schema = found.key.schema if found.key.schema != where.schema else None
        release = ReleaseSequenceOp(
            where.table,
            where.column,
            found.key.name,
            schema=where.schema,
            sequence_schema=sequence_schema,
            identity=identity,
            keep=keep,
        )
        release.was = AdoptSequenceOp(
            where.table,
            where.column,
            found.key.name,
            schema=where.schema,
            sequence_schema=sequence_schema,
            options=found.options.trimmed(),
            owned=found.owner == where,
            tracked=self.marked(found) and not keep,
            was=release,
        )
        self.releases[where] = release
        if not keep:
            self.dropped.add(found.key)

    def resync(self, where: ColumnKey, column: Column[int], key: SequenceKey | None) -> None:
        """Plan a resync, because existing rows have values that the sequence must not hand out
        again.
        """
        if isinstance(column.type, Integer | Numeric):
            self.resynced[where] = key

    def resync_back(self, where: ColumnKey, column: Column[int], key: SequenceKey) -> None:
        """Plan a resync for the downgrade: the column leaves the sequence, which must not restart
        then.
        """
        if isinstance(column.type, Integer | Numeric):
            self.resynced_back[where] = key


_comparisons: WeakKeyDictionary[AutogenContext, Comparison] = WeakKeyDictionary()

_NAME_LENGTH = 64
"""PostgreSQL cuts names at 63 bytes, and then the name of a SERIAL's sequence is not the plain one.
"""


def _sequence_key(op: AdoptSequenceOp) -> SequenceKey:
    return SequenceKey(op.sequence_schema or op.schema, op.sequence)
