"""Executes a session's operations on one side."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from fuzz.observer import Observer, columns_of, masked
from fuzz.operations import Operation
from fuzz.shapes import GENERATED, Models
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached

__all__ = ["Player"]


Unsaved = tuple[Any, dict[str, Any], dict[str, Any], set[str], bool]
"""The state of an object without a row: the values of its columns, which are changed, which
expired, and whether it is marked as changed.
"""


@dataclass
class Player:
    """Executes operations in one session; a number selects an object, in the order in which they
    were made.
    """

    session: Session
    models: Models
    made: list[Any] = field(default_factory=list)
    savepoints: list[Any] = field(default_factory=list)
    observer: Observer = field(init=False)
    number: int = 0
    seen: Any = None

    def __post_init__(self) -> None:
        self.observer = Observer(self.session, self.models, self.made)

    def play(self, operation: Operation) -> dict[str, Any]:
        """Execute an operation; return its error, its warnings, what it saw, and the state of all
        objects afterwards.
        """
        raised, left = None, {}
        self.seen = None
        before = self.unsaved()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                getattr(self, operation.name.replace(" ", "_"))(*operation.arguments)
            except Exception as error:
                raised = type(error).__name__
                if not isinstance(error, SQLAlchemyError):
                    raised = f"{raised}, none of SQLAlchemy's"
                try:
                    self.recover(operation.after)
                except (SQLAlchemyError, AssertionError) as again:
                    # An object that was deleted and then made transient cannot be restored, and a
                    # rollback after that one fails an assertion of SQLAlchemy's own.
                    raised = f"{raised}, then {type(again).__name__}"
                    self.session.close()
                left = self.level(before)
        return {
            "raised": raised,
            "left": left,
            "warned": sorted({masked(str(w.message)) for w in caught}),
            "saw": self.seen,
            "session": self.observer.session_state(),
            "objects": self.observer.pictures(),
        }

    def recover(self, after: str) -> None:
        if after == "savepoint" and self.savepoints:
            savepoint = self.savepoints.pop()
            if savepoint.is_active or savepoint.nested:
                try:
                    savepoint.rollback()
                except SQLAlchemyError:
                    self.rollback()
        elif after != "nothing":
            self.rollback()

    def unsaved(self) -> list[Unsaved]:
        """The objects that have no row, with the values of their columns, and which of these are
        changed and which expired.
        """
        states: list[Any] = [inspect(item) for item in self.made]
        return [
            (
                state,
                columns_of(state),
                dict(state.committed_state),
                set(state.expired_attributes),
                state.modified,
            )
            for state in states
            if state.key is None
        ]

    def level(self, before: list[Unsaved]) -> dict[str, Any]:
        """Remove the values that a refused flush left on objects without a row, and return those to
        compare.

        A flush of several statements leaves values on the objects of the statements before the
        refused one. Which objects these are is not promised, because one statement may write what
        plain SQLAlchemy writes with several. So only foreign keys are compared, because they refer
        to another row. NULL refers to none, and is left out: whether plain SQLAlchemy leaves it on
        an object that was its own parent depends on the order of a set.
        """
        self.observer.learn()
        left = {}
        for state, values, changed, expired, modified in before:
            if state.key is not None:
                continue
            state.expired_attributes.intersection_update(expired)
            state.committed_state.clear()
            state.committed_state.update(changed)
            state.modified = modified
            now = columns_of(state)
            if now == values:
                continue
            left[values.get("tag", "?")] = {
                name: self.observer.value_of(state, name, now[name])
                for name in sorted(now)
                if now[name] is not None
                and (name not in values or now[name] is not values[name])
                and name != "id"
                and state.mapper.columns[name].foreign_keys
            }
            for name in now:
                del state.dict[name]
            state.dict.update(values)
        return left

    def tag(self) -> str:
        self.number += 1
        return f"t{self.number}"

    def build(self, name: str, given: dict[str, Any], *, keyed: bool = False) -> Any:
        tag = self.tag()
        key = self.models.blueprint.root(name).key
        more: dict[str, Any] = {}
        if key in {"natural", "pair"}:
            more["id"] = f"key of {tag}"
        elif keyed and key not in {"always", "uuid", "server uuid"}:
            more["id"] = -self.number
        if key in {"tenant", "pair"}:
            more["tenant"] = self.number % 2
        item = self.models.classes[name](tag=tag, **more, **given)
        self.made.append(item)
        return item

    def pick(self, number: int, kind: type[Any] | None = None) -> Any:
        found = [item for item in self.made if kind is None or isinstance(item, kind)]
        return found[number % len(found)] if found else None

    def make(self, name: str, given: list[dict[str, Any]], how: str, times: int = 1) -> None:
        items = [self.build(name, one, keyed=how == "key") for one in given * times]
        if how != "leave":
            self.session.add_all(items)

    make_many = make

    def set(self, number: int, name: str, attribute: str, value: Any) -> None:
        item = self.pick(number, self.models.classes[name])
        if item is not None:
            setattr(item, attribute, value)

    def set_all(self, name: str, attribute: str, value: Any, every: int) -> None:
        """Set an attribute of all objects of a class, or of every ``every``-th of them."""
        for item in self.all_of(name)[::every]:
            setattr(item, attribute, value)

    def delete_all(self, name: str, every: int) -> None:
        for item in self.all_of(name)[::every]:
            self.session.delete(item)

    def all_of(self, name: str) -> list[Any]:
        model = self.models.classes[name]
        return [item for item in self.made if isinstance(item, model) and item in self.session]

    def change_in_place(self, number: int) -> None:
        item = self.pick(number)
        if item is not None and isinstance(getattr(item, "changing", None), dict):
            item.changing["more"] = number

    def relate(self, number: int, which: int, other: int) -> None:
        """Set or unset a relationship, or append or remove an object, depending on the present
        value.
        """
        item = self.pick(number)
        relations = sorted(inspect(item).mapper.relationships.keys()) if item is not None else []
        if not relations:
            return
        relation = inspect(item).mapper.relationships[relations[which % len(relations)]]
        target = self.pick(other, relation.mapper.class_)
        if target is None:
            return
        value = getattr(item, relation.key)
        if relation.uselist and target in value:
            value.remove(target)
        elif relation.uselist:
            value.append(target)
        else:
            setattr(item, relation.key, None if value is target else target)

    def add(self, number: int) -> None:
        if self.made:
            self.session.add(self.pick(number))

    def add_all(self, *numbers: int) -> None:
        if self.made:
            self.session.add_all([self.pick(number) for number in numbers])

    def delete(self, number: int) -> None:
        if self.made:
            self.session.delete(self.pick(number))

    def merge(self, number: int, given: dict[str, Any]) -> None:
        """Merge a copy of an object, with other values."""
        item = self.pick(number)
        if item is None:
            return
        mapper, values = inspect(item).mapper, inspect(item).dict
        names = [c.key for c in mapper.primary_key] + ["tag"]
        copied = {name: values[name] for name in names if values.get(name) is not None}
        columns = mapper.columns.keys()
        changed = {name: value for name, value in given.items() if name in columns}
        self.keep(self.session.merge(type(item)(**{**copied, **changed})))

    def merge_anew(self, name: str, given: dict[str, Any], keyed: bool) -> None:
        item = self.build(name, given, keyed=keyed)
        self.made.pop()
        self.keep(self.session.merge(item))

    def same_key(self, number: int, given: dict[str, Any]) -> None:
        """Add another object with the key of an existing one."""
        item = self.pick(number)
        if item is not None and inspect(item).identity:
            mapper = inspect(item).mapper
            names = [column.key for column in mapper.primary_key]
            columns = mapper.columns.keys()
            values = {name: value for name, value in given.items() if name in columns}
            key = dict(zip(names, inspect(item).identity, strict=True))
            again = type(item)(**{"tag": self.tag(), **values, **key})
            self.made.append(again)
            self.session.add(again)

    def keep(self, item: Any) -> None:
        if not any(item is one for one in self.made):
            self.made.append(item)

    def expire(self, number: int) -> None:
        if self.made:
            self.session.expire(self.pick(number))

    def expire_attribute(self, number: int, name: str, attribute: str, _value: Any) -> None:
        item = self.pick(number, self.models.classes[name])
        if item is not None:
            self.session.expire(item, [attribute])

    def refresh(self, number: int) -> None:
        if self.made:
            self.session.refresh(self.pick(number))

    def expunge(self, number: int) -> None:
        if self.made:
            self.session.expunge(self.pick(number))

    def make_transient(self, number: int) -> None:
        if self.made:
            item = self.pick(number)
            if number % 3 and not inspect(item).transient:
                make_transient(item)
                if number % 3 == 1:
                    key = self.models.blueprint.root(type(item).__name__).key
                    if key in GENERATED:
                        item.id = None
            elif inspect(item).transient and item.__dict__.get("id") is not None:
                make_transient_to_detached(item)

    def read(self, number: int, which: int, _other: int) -> None:
        item = self.pick(number)
        if item is not None:
            names = sorted(inspect(item).mapper.attrs.keys())
            name = names[which % len(names)]
            getattr(item, name)

    def query(self, name: str) -> None:
        model = self.models.classes[name]
        found = self.session.scalars(select(model).order_by(model.tag)).all()
        self.seen = [item.tag for item in found]
        for item in found:
            self.keep(item)

    def delete_behind(self, number: int) -> None:
        """Delete an object's row without the session's knowledge."""
        item = self.pick(number)
        if item is None or "tag" not in inspect(item).dict:
            return
        tables = inspect(item).mapper.tables
        tag = inspect(item).dict["tag"]
        connection = self.session.connection()
        found = f"SELECT id FROM {tables[0].name} WHERE tag = :tag"
        for table in reversed(tables):
            statement = text(f"DELETE FROM {table.name} WHERE id IN ({found})")
            connection.execute(statement, {"tag": tag})

    def flush(self) -> None:
        self.session.flush()

    def commit(self) -> None:
        self.savepoints.clear()
        self.session.commit()

    def rollback(self) -> None:
        self.savepoints.clear()
        self.session.rollback()

    def begin(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    def release(self) -> None:
        if self.savepoints:
            self.savepoints.pop().commit()

    def undo(self) -> None:
        if self.savepoints:
            self.savepoints.pop().rollback()

    def look(self) -> None:
        """The rows as the transaction sees them, without a flush of pending objects."""
        with self.session.no_autoflush:
            self.seen = self.observer.rows()
