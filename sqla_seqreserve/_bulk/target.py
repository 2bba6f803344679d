"""The tables of a class whose rows are updated or deleted, and the columns that are staged for
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Alias, Column, ColumnElement, Connection, FromClause, Select, Table, text
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors

from .. import _reasons as why
from .._ids.table_names import quoted, stored_name, table_name
from .._mistakes import no_such_table
from .._reasons import Reason
from .._rows.plan import ColumnPlan, InsertPlan
from .._sqlalchemy.mapping import key_columns
from ..errors import ConfigurationError
from .class_tables import ClassTables
from .staged_rows import named
from .staging import as_given, as_made, staged_columns

_MAY_LOCK: Final = text(
    """
    SELECT has_any_column_privilege(given.oid, 'UPDATE')
      FROM unnest(CAST(:tables AS oid[])) WITH ORDINALITY AS given (oid, slot)
     ORDER BY given.slot
    """
)


class Target:
    """The tables of one class in one database, parents first.

    :param class_tables: the tables, and what is known of them.
    :param what: the function that was called, as errors name it.
    """

    def __init__(self, class_tables: ClassTables, what: str) -> None:
        self.mapper = class_tables.mapper
        self.what = what
        self.plans: dict[Table, InsertPlan] = {}
        for table, plan in class_tables.plans.items():
            if plan is None:
                name = table_name(class_tables.connection, table)
                raise no_such_table(name)
            if plan.facts.distributed:
                raise ConfigurationError(
                    f"Citus distributes {plan.facts.name}, and joins it with no rows of {what}. "
                    f"Use session.execute() with SQLAlchemy's own statement and a list of rows"
                )
            self.plans[table] = plan
        self.keys: list[Any] = list(self.mapper.primary_key)
        if any(len(key_columns(self.mapper, each)) != len(self.keys) for each in self.plans):
            names = ", ".join(table.name for table in self.plans)
            raise ConfigurationError(
                f"{self.name} is mapped to a join of tables ({names}) that do not share its key, "
                f"and {what} finds rows by one key. Expected a class of one of the tables"
            )

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.mapper.class_.__name__

    def column_plan(self, attribute: str) -> ColumnPlan | None:
        """Return how the attribute's column is written; where tables share it, the parent's
        column.
        """
        for plan in self.plans.values():
            for item in plan.columns:
                if item.attribute == attribute:
                    return item
        return None

    @property
    def stored(self) -> list[Table]:
        """The tables whose rows can be locked before they are written, so no views."""
        return [table for table, plan in self.plans.items() if plan.facts.kind in {"r", "p"}]

    def lockable(self, connection: Connection) -> list[Table]:
        """Return those tables whose rows the role may lock: the privilege DELETE alone does not
        allow it.
        """
        tables = self.stored
        if not tables:
            return []
        oids = [self.plans[table].facts.oid for table in tables]
        allowed = connection.execute(_MAY_LOCK, {"tables": oids}).scalars()
        return [table for table, may in zip(tables, allowed, strict=True) if may]

    def is_of_class(self) -> list[ColumnElement[bool]]:
        """Return the conditions under which a row of a table that several classes share belongs to
        this class.
        """
        mapper: Mapper[Any] = self.mapper
        if not mapper.single or mapper.polymorphic_on is None:
            return []
        identities = [each.polymorphic_identity for each in mapper.self_and_descendants]
        return [self.plainly(mapper.polymorphic_on).in_(identities)]

    def plainly(self, expression: Any, given: Any = None) -> Any:
        """Replace the class's attributes in an expression by the columns of its tables; and
        ``insert(Model).excluded`` by the columns of the given rows.

        :param given: the given rows; ``None``: ``excluded`` stays as it is.
        """
        columns = {column: column for table in self.plans for column in table.columns}

        def replaced(element: Any, **_: Any) -> Any:
            if not isinstance(element, Column):
                return None
            if getattr(element.table, "name", None) == "excluded" and given is not None:
                return given.c[element.name]
            return columns.get(element)

        return visitors.replacement_traverse(expression, {}, replaced)

    def refuse_other_tables(self, name: str, statement: Select[Any]) -> None:
        """Refuse a condition that joins the statement's rows with those of another table: it would
        find a row several times.

        :param name: the name of the caller's argument.
        :param statement: selects from one table or join, and contains the condition.
        :raises ConfigurationError: naming the other tables.
        """
        _, *others = statement.get_final_froms()
        if others:
            tables = ", ".join(map(_description, others))
            raise ConfigurationError(
                f"{name} joins {self.name} with {tables}. Expected a condition on attributes of "
                f"{self.name}; for rows of other tables use exists(), or in_() with a select()"
            )

    def staged(
        self, attributes: Iterable[str], made: Mapping[Column[Any], Callable[[], Any]]
    ) -> InsertPlan:
        """Return the plan for staging rows that give these attributes.

        :param made: columns for which a function makes the value of each row.
        """
        chosen: list[ColumnPlan] = []
        for attribute in sorted(attributes):
            item = self.column_plan(attribute)
            if item is None:
                raise ConfigurationError(
                    f"{self.what} writes columns, and {self.name}.{attribute} is none that can be "
                    "written"
                )
            chosen.append(as_given(item))
        for plan in self.plans.values():
            chosen += [
                replace(as_made(item, made[item.column]), attribute=None)
                for item in plan.columns
                if item.column in made
            ]
        plan = staged_columns(next(iter(self.plans.values())), chosen)
        return plan if len(self.plans) == 1 else self._of_several(plan)

    def _of_several(self, plan: InsertPlan) -> InsertPlan:
        """Return the plan of a class of several tables, with the facts of all their columns as if
        of one table.
        """
        owners = {item.column.name: self.plans[item.column.table] for item in plan.columns}
        if len(owners) < len(plan.columns):
            raise ConfigurationError(
                f"{self.what}: several tables of {self.name} have a column of one name, and rows "
                "give both. Expected one of them at a time"
            )
        names = [f"{owner.facts.name}.{quoted(name)}" for name, owner in owners.items()]
        tables = ", ".join(each.facts.name for each in self.plans.values())
        facts = replace(
            plan.facts,
            name=f"(SELECT {', '.join(names)} FROM {tables}) AS {named('tables')}",  # noqa: S608  # quoted names
            fingerprint=" ".join(each.facts.fingerprint for each in self.plans.values()),
            columns={
                stored_name(name): owner.facts.columns[stored_name(name)]
                for name, owner in owners.items()
            },
        )
        return replace(plan, facts=facts)

    def table_keys(self, table: Table) -> list[Any]:
        """Return the columns of a table that equal the class's key, in the order of the key."""
        keys = list(key_columns(self.mapper, table))
        assert len(keys) == len(self.keys)
        return keys


def _description(item: FromClause) -> str:
    if isinstance(item, Alias):
        return f"an alias of {_description(item.element)}"
    return str(getattr(item, "name", item))


def row_by_row_reason(plans: Iterable[InsertPlan], kind: str) -> Reason | None:
    """Say why one statement for all rows of these tables differs from one per row: a rule or a
    statement trigger sees the difference. ``None`` if nothing does.
    """
    for plan in plans:
        if kind in plan.facts.watched and plan.facts.kind in {"r", "p"}:
            return why.watched_statement(plan.facts.name, kind.upper())
    return None
