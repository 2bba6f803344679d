"""The tables of one class in a bulk operation: planned, locked, compared with what is known of
them, and used to check the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper, Session

from .._drivers import driver_of, transaction_status
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.fetch import Wanted
from .._ids.keys import KeySequence, generated_key, note_outgrown, resolve
from .._ids.reservation_statement import IdRequest, IndexFacts
from .._ids.reserve import hindrance, take_until_held
from .._ids.table_names import stored_name, table_name
from .._rows.codecs import Codec, value_table
from .._rows.plan import Absent, InsertPlan, insert_plan
from .._rows.table import ColumnRows
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import (
    inherits_key,
    key_columns,
    polymorphic_attribute,
    tables_in_order,
    writes_to,
)
from ..errors import InvalidRowsError
from .input import Chunk, given_by
from .progress import Progress
from .row_checks import NO_VALUE, Kind, check_rows, filled, kinds_of, kinds_of_keys, refused, unlike

_NOTHING: Final[Mapping[str, int]] = {}


class ClassTables:
    """The tables of one class in one database, parents first, and what is known of them.

    :param session: the session of the connection; it begins the savepoint, if one is needed.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        mapper: Mapper[Any],
        progress: Callable[[int], object] | None,
    ) -> None:
        self.session = session
        self.connection = connection
        self.mapper = mapper
        self.progress = Progress(session, connection, progress) if progress is not None else None
        self.tables = [
            table for table, _ in tables_in_order(mapper.base_mapper) if writes_to(mapper, table)
        ]
        self.attributes = [
            mapper.get_property_by_column(column).key for column in mapper.primary_key
        ]
        self.plans: dict[Table, InsertPlan | None] = dict.fromkeys(self.tables)
        self.source = KeySequence(generated_key(mapper))
        self.look()

    def look(self) -> list[TableFacts]:
        """Plan the tables from the cached facts of the catalogue; return these facts."""
        connection, mapper = self.connection, self.mapper
        self.source = resolve(connection, [mapper])[mapper]
        names = {table: table_name(connection, table) for table in self.tables}
        found = catalogue.table_facts(connection, names.values())
        known = []
        for table, name in names.items():
            facts = found[name]
            self.plans[table] = None
            if facts is not None:
                self.plans[table] = insert_plan(mapper, table, facts, connection.dialect)
                known.append(facts)
        return known

    def look_anew(self) -> None:
        """Read the facts of the tables again, and plan with them."""
        connection = self.connection
        catalogue.forget(connection, [table_name(connection, table) for table in self.tables])
        self.look()

    def pin(
        self, missing: Mapping[str, int] = _NOTHING, indexes: list[IndexFacts] | None = None
    ) -> dict[str, Sequence[Any]] | None:
        """Lock the tables, compare what is known of them and take ids, all in one message. Return
        ``None``, with nothing taken, if nothing can be held or compared before rows are written.

        :param missing: attribute of the key -> how many values are wanted. The result has the
            values that can be reserved, as the attribute holds them.
        :param indexes: indexes to compare as well; the list is emptied if they were not compared or
            have changed.
        """
        compared = list(indexes or ())
        if indexes is not None:
            indexes.clear()
        connection = self.connection
        if driver_of(connection.dialect) is None or interference_on(connection) is not None:
            return None

        def look() -> Wanted | None:
            nonlocal compared
            held = hindrance(connection, transaction_status(connection))
            known = self.look() if held is None else []
            if len(known) < len(self.tables) or not all(facts.lockable for facts in known):
                return None
            parts = self.source.parts if self.reserves else ()
            requests = [IdRequest(part, missing.get(part.key.attribute, 0)) for part in parts]
            wanted, compared = Wanted(requests, known, compared), []
            return wanted

        found = take_until_held(connection, look)
        if found is None:
            self.look()
            return None
        wanted, taken = found
        if indexes is not None:
            indexes += wanted.indexes
        parts = [request.source for request in wanted.requests]
        if any(map(note_outgrown, repeat(connection), parts, taken)):
            # note_outgrown() has recorded this: the next look finds no sequence to reserve from.
            return self.pin(missing, indexes)
        return {
            part.key.attribute: list(map(part.to_python, ids)) if part.to_python else ids
            for part, ids in zip(parts, taken, strict=True)
        }

    @property
    def reserves(self) -> bool:
        """Whether keys are reserved for the rows, and not left to an INSERT that casts their
        values.
        """
        return self.source.is_reservable and not any(
            plan is not None and plan.cast_reason for plan in self.plans.values()
        )

    # Checking

    def required(self) -> dict[str, str]:
        """Return the attributes for which every row must give a value, each with what is wrong with
        a row that gives none.
        """
        found: dict[str, str] = {}
        for table in self.tables:
            plan = self.plans[table]
            keys = key_columns(self.mapper, table)
            for column in plan.columns if plan is not None else ():
                attribute = column.attribute
                if attribute is None or attribute == polymorphic_attribute(self.mapper):
                    continue
                if column.column in keys:
                    if self._lacks_source(column.column, table, plan):
                        found[attribute] = (
                            "has no value, and nothing fills this column of the key: "
                            f"{self.source.reason or 'it has no default and no sequence'}"
                        )
                elif (
                    column.absent is Absent.NULL
                    and not column.column.nullable
                    and not _may_fill(plan)
                ):
                    found.setdefault(attribute, NO_VALUE)
        return found

    def _lacks_source(self, column: Any, table: Table, plan: InsertPlan | None) -> bool:
        """Whether only the row itself can give a key column its value."""
        if column.default is not None or column.server_default is not None or _may_fill(plan):
            return False
        assert plan is not None
        in_database = plan.facts.columns.get(stored_name(column.name))
        if in_database is None or in_database.fills_itself:
            return False
        return not any(
            inherits_key(self.mapper, column, source)
            for other in self.tables
            if other is not table
            for source in key_columns(self.mapper, other)
        )

    def filled(self, rows: Chunk) -> Chunk:
        """Return the rows; if they come as columns, with ``None`` in the gaps."""
        return filled(rows, self.kinds()) if isinstance(rows, ColumnRows) else rows

    def given_by(self, rows: Chunk) -> frozenset[str]:
        """Return the attributes that the first row gives; every other row must give the same.

        :raises InvalidRowsError: one is no name.
        """
        given = given_by(rows)
        if not all(isinstance(key, str) for key in given):
            self.check(rows, 0, {})
        return given

    def check(
        self,
        rows: Chunk,
        start: int,
        required: Mapping[str, str],
        by: Iterable[str] = (),
    ) -> tuple[set[str], dict[str, list[Any]]]:
        """See :func:`~sqla_seqreserve._bulk.row_checks.check_rows`.

        :param by: the attributes that find the row.
        """
        kinds = self.kinds()
        kinds |= kinds_of_keys(self.mapper, by, kinds)
        return check_rows(self.mapper, rows, start, required, kinds, self._adapts)

    def _adapts(self, type_: type) -> bool:
        """Whether the application has registered a type with the driver."""
        table = value_table(self.connection.dialect)
        if table is None:
            return False
        return table.adapted_otherwise(self.connection, Codec(0), {type_}) is not None

    def check_alike(
        self,
        rows: Chunk,
        start: int,
        given: frozenset[str],
        required: Mapping[str, str],
        by: Iterable[str] = (),
    ) -> dict[str, list[Any]]:
        """Check the rows as :meth:`check` does, and refuse rows that give other attributes than the
        first. Return the values of the attributes that were checked.

        :raises InvalidRowsError: listing every row that is wrong, for any reason.
        """
        problems = list(unlike(rows, start, given))
        try:
            _, values = self.check(rows, start, required, by)
        except InvalidRowsError as error:
            named = {(problem.index, problem.attribute) for problem in error.problems}
            problems = [each for each in problems if (each.index, each.attribute) not in named]
            raise refused(self.mapper, rows, start, [*error.problems, *problems]) from None
        if problems:
            bad = len({problem.index for problem in problems})
            raise InvalidRowsError(
                f"{self.mapper.class_.__name__}: {bad} of {len(rows)} rows give other attributes "
                "than row 0, and all must give the same; nothing was written",
                problems,
            )
        return values

    def kinds(self) -> dict[str, Kind]:
        """The attributes whose values are checked, with what their columns hold."""
        return kinds_of(self.plans.values())


def _may_fill(plan: InsertPlan | None) -> bool:
    """Whether a trigger or rule may give a new row values that it does not have."""
    if plan is None:
        return False
    facts = plan.facts
    return facts.before_insert_triggers or facts.insert_rules or facts.kind not in {"r", "p"}
