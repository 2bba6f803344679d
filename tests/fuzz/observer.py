"""Describes a player's objects, their session and their rows, so that both sides can be compared.

Keys differ between the sides, so a key is described by the tag of its object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fuzz.shapes import Models
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

__all__ = ["Observer", "columns_of", "masked"]


@dataclass
class Observer:
    """Describes the objects that a player has made in a session."""

    session: Session
    models: Models
    made: list[Any]
    keys: dict[tuple[str, Any], str] = field(default_factory=dict)
    """The class at the top of the hierarchy and a key's value -> the tag of the key's object."""

    def learn(self) -> None:
        """Remember which object has which key."""
        for item in self.made:
            values = item.__dict__
            if values.get("id") is not None and values.get("tag") is not None:
                root = self.models.blueprint.root(type(item).__name__).name
                self.keys.setdefault((root, values["id"]), values["tag"])

    def known(self, table: str, column: str, value: Any) -> Any:
        """A value that can be compared: for a generated key, the tag of its object."""
        root = self.models.refers.get((table, column))
        if value is None or root is None or not self.models.is_generated(root):
            return repr(value)
        return f"key of {self.keys.get((root, value), '?')}"

    def value_of(self, state: Any, name: str, value: Any) -> Any:
        column = state.mapper.columns[name]
        return self.known(column.table.name, column.name, value)

    def pictures(self) -> list[Any]:
        """The present state of each object that was ever made."""
        self.learn()
        return [self.picture(item) for item in self.made]

    def picture(self, item: Any) -> list[Any]:
        state: Any = inspect(item)
        values = {}
        for key, value in sorted(state.dict.items()):
            if key == "_sa_instance_state":
                continue
            if key in state.mapper.relationships:
                some = value if isinstance(value, list) else [value]
                values[key] = [one and one.__dict__.get("tag", "?") for one in some]
            else:
                values[key] = self.value_of(state, key, value)
        kind = next(
            name
            for name in ("transient", "pending", "persistent", "deleted", "detached")
            if getattr(state, name)
        )
        return [
            type(item).__name__,
            kind,
            values,
            f"unloaded {sorted(state.unloaded)}",
            f"expired {sorted(state.expired_attributes)}",
            f"changed {sorted(state.committed_state)}",
            f"modified {state.modified}, known {state.key is not None}, in {item in self.session}",
        ]

    def session_state(self) -> list[Any]:
        session = self.session
        return [
            *(
                sorted(str(item.__dict__.get("tag")) for item in some)
                for some in (session.new, session.dirty, session.deleted)
            ),
            session.is_active,
            session.in_transaction(),
            session.in_nested_transaction(),
        ]

    def rows(self) -> dict[str, list[Any]]:
        """The rows of all tables, sorted, with each generated key described by its object."""
        connection = self.session.connection()
        tables = self.models.metadata.sorted_tables
        found = {table: connection.execute(select(table)).mappings().all() for table in tables}
        for table, rows in found.items():
            if "tag" in table.c:
                for row in rows:
                    root = self.models.refers[table.name, "id"]
                    self.keys.setdefault((root, row["id"]), row["tag"])
        return {
            table.name: sorted(
                str([f"{c.name} {self.known(table.name, c.name, row[c.name])}" for c in table.c])
                for row in rows
            )
            for table, rows in found.items()
        }


def columns_of(state: Any) -> dict[str, Any]:
    names = state.mapper.columns.keys()
    return {name: value for name, value in state.dict.items() if name in names}


def masked(message: str) -> str:
    """A warning's text without the parts that differ from run to run."""
    message = re.sub(r"0x[0-9a-f]+", "0x", message)
    return re.sub(r"\(Background on.*", "", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", message))[
        :120
    ]
