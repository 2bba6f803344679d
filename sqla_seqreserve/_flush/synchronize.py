"""Copies keys along relationships between new objects in a tight loop.

Once parents have their keys, SQLAlchemy copies them to the foreign keys of the children, object by
object, through its general code for histories and attribute events. Between new objects there is no
history: the foreign key gets the value of the related object's key. :class:`ProcessAll` does this
for simple many-to-one and one-to-many relationships. It leaves an object to SQLAlchemy if more must
be considered: persistent or deleted objects, replaced or emptied relationships, ``post_update``,
foreign keys that are part of a primary key, attributes with listeners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy.orm import Mapper, attributes
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.orm.interfaces import MANYTOMANY, MANYTOONE

from .._sqlalchemy.changes import LinkKind
from .._sqlalchemy.mapping import is_watched, kept_with, plain_attribute
from .._sqlalchemy.session import connection_for, had_members, pending_mutations
from .._sqlalchemy.unit_of_work import ManyToMany, State
from .._sqlalchemy.unit_of_work import PostUpdateAll as SQLAlchemyPostUpdateAll
from .._sqlalchemy.unit_of_work import ProcessAll as SQLAlchemyProcessAll
from .._sqlalchemy.unit_of_work import ProcessState as SQLAlchemyProcessState

Copied: TypeAlias = tuple[dict[str, Any], str, Any, State | None]
"""A foreign key that was copied: the object's dictionary, the attribute, its value before, and the
object that it refers to.
"""


def put_back(copied: list[Copied], mark: int) -> None:
    """Undo the copying of all foreign keys but the first ``mark``."""
    while len(copied) > mark:
        _put_back(copied.pop())


def put_back_unsaved(copied: Sequence[Copied], saved: set[State]) -> None:
    """Undo the copying of foreign keys that refer to new objects that are not in ``saved``.
    SQLAlchemy copies such a key after it has saved the object; for trees it was copied before.
    """
    for one in reversed(copied):
        parent = one[3]
        if parent is not None and parent.key is None and parent not in saved:
            _put_back(one)


def _put_back(copied: Copied) -> None:
    """Restore the value that an attribute had before a foreign key was copied to it."""
    row, attribute, before, _ = copied
    if before is NO_VALUE:
        row.pop(attribute, None)
    else:
        row[attribute] = before


class ProcessAll(SQLAlchemyProcessAll):
    """Processes one relationship for all objects of a flush, after its parents are saved and before
    its children are.
    """

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        processor = self.dependency_processor
        if not any(True for _ in self._elements(uow)):
            return
        if processor.direction is MANYTOMANY:
            links = link_processor(processor)
            if links is not None:
                # A link row holds the keys of two objects. SQLAlchemy processes no pair of objects
                # twice, so the flush could not begin again after this.
                uow.seqreserve.settle(processor.parent, processor.mapper)
                uow.seqreserve.settle_comparison()
                process = links.process_deletes if self.isdelete else links.process_saves
                process(uow, self._elements(uow))
                return
        copying = None
        if not self.isdelete and self.fromparent:
            copying = copying_of(processor, uow.seqreserve.copied)
        if copying is None:
            # What SQLAlchemy sets could not be undone if the server refused a waiting statement.
            # For deleted objects of a many-to-one relationship it sets nothing.
            if not self.isdelete or processor.direction is not MANYTOONE or processor.post_update:
                uow.seqreserve.drain()
            super().execute(uow)
            return
        rest = [
            state
            for state in self._elements(uow)
            if not (copy_key(copying, state, uow) or _is_untouched(copying, state))
        ]
        if rest:
            uow.seqreserve.drain()
            processor.process_saves(uow, rest)


class ProcessState(SQLAlchemyProcessState):
    """Lets SQLAlchemy process a relationship for some objects of a cycle. The waiting statements
    are sent first, because what SQLAlchemy sets could not be undone.
    """

    __slots__ = ()

    def execute_aggregate(self, uow: Any, recs: set[Any]) -> None:
        uow.seqreserve.drain()
        super().execute_aggregate(uow, recs)

    def __repr__(self) -> str:
        # CircularDependencyError shows it.
        return super().__repr__().replace(ProcessState.__name__, SQLAlchemyProcessState.__name__, 1)


class PostUpdateAll(SQLAlchemyPostUpdateAll):
    """Writes foreign keys (``post_update``) after the rows that they refer to are written."""

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        uow.seqreserve.drain()
        super().execute(uow)


PROCESSES: Final[Mapping[type[Any], type[Any]]] = {
    SQLAlchemyPostUpdateAll: PostUpdateAll,
    SQLAlchemyProcessAll: ProcessAll,
    SQLAlchemyProcessState: ProcessState,
}
"""For each class of SQLAlchemy's actions: this package's class that replaces it."""


@dataclass(frozen=True, slots=True, eq=False)
class Copying:
    """What is copied along a relationship: pairs of attribute keys, from the referenced object
    to the referring object.
    """

    processor: Any
    key: str
    pairs: tuple[tuple[str, str], ...]
    accepted: set[Mapper[Any]]
    copied: list[Copied]

    def related_to(self, state: State) -> Iterable[Any]:
        """The objects that the relationship of a new object holds; ``None`` may be among them."""
        if self.key not in state.dict:
            return ()
        many = self.processor.prop.uselist
        value = state.dict[self.key]
        return _members(many, value) if value is not None else ()

    def accepts(self, related: State) -> bool:
        """Always true, unless SQLAlchemy raises because an object of this class may not stand in
        the relationship; each class is checked once.
        """
        mapper = related.manager.mapper
        if mapper not in self.accepted:
            self.processor._verify_canload(related)
            self.accepted.add(mapper)
        return True

    def copy(self, source: State, target: State, row: dict[str, Any]) -> bool:
        """Copy the key, with the effects of setting the attributes. Return False, with nothing
        changed, if a part of the key is missing.
        """
        held = source.dict
        values = [held.get(left) for left, _ in self.pairs]
        return None not in values and self._set(values, target, row, source)

    def clear(self, target: State, row: dict[str, Any]) -> bool:
        """Set the foreign key of an object that refers to nothing to NULL, in the same way."""
        return self._set([None] * len(self.pairs), target, row, None)

    def _set(
        self, values: Sequence[Any], target: State, row: dict[str, Any], source: State | None
    ) -> bool:
        if not target.modified:
            return False
        for (_, right), value in zip(self.pairs, values, strict=True):
            before = row.get(right, NO_VALUE)
            target.committed_state.setdefault(right, before)
            self.copied.append((row, right, before, source))
            row[right] = value
        return True


class LinkProcessor(ManyToMany):
    """Processes a many-to-many relationship as SQLAlchemy does, but sends the link rows with the
    next message.
    """

    def _run_crud(
        self,
        uowcommit: Any,
        secondary_insert: list[dict[str, Any]],
        secondary_update: list[dict[str, Any]],
        secondary_delete: list[dict[str, Any]],
    ) -> None:
        run = uowcommit.seqreserve
        if run.settings.mode != "bulk":
            super()._run_crud(uowcommit, secondary_insert, secondary_update, secondary_delete)
            return
        connection = connection_for(uowcommit, self.mapper)
        queue = run.queue(connection, uowcommit)
        kinds: tuple[tuple[LinkKind, list[dict[str, Any]]], ...] = (
            ("delete", secondary_delete),
            ("update", secondary_update),
            ("insert", secondary_insert),
        )
        for kind, rows in kinds:
            if rows and not queue.link(self.secondary, kind, rows):
                none: list[dict[str, Any]] = []
                super()._run_crud(
                    uowcommit,
                    rows if kind == "insert" else none,
                    rows if kind == "update" else none,
                    rows if kind == "delete" else none,
                )


def link_processor(processor: Any) -> LinkProcessor | None:
    """The processor that lets the link rows of a many-to-many relationship travel with other
    statements; ``None`` if ``processor`` is not of SQLAlchemy's own class. It is made once.
    """
    if type(processor) is not ManyToMany:
        return None
    kept = kept_with(processor.parent)
    found: LinkProcessor | None = kept.get(processor)
    if found is None:
        twin: Any = copy(processor)
        twin.__class__ = LinkProcessor
        found = kept[processor] = twin
    return found


def _is_untouched(copying: Copying, state: State) -> bool:
    """Whether a persistent object needs no copying, because neither its relationship nor its key
    was changed.
    """
    if state.key is None or copying.key in pending_mutations(state):
        return False
    changed = state.committed_state
    return copying.key not in changed and (
        copying.processor.direction is MANYTOONE
        or all(left not in changed for left, _ in copying.pairs)
    )


def copy_key(copying: Copying, state: State, uow: Any) -> bool:
    """Copy the key along the relationship of one object. Return whether nothing else is left to
    do for it.
    """
    if copying.processor.direction is MANYTOONE:
        return _copy_from_one(copying, state, uow)
    return _copy_to_many(copying, state, uow)


def copying_of(processor: Any, copied: list[Copied]) -> Copying | None:
    """What this relationship copies; ``None`` if SQLAlchemy's own processing has more to do."""
    if processor.post_update or processor.direction is MANYTOMANY:
        return None
    many_to_one = processor.direction is MANYTOONE
    if many_to_one and processor.prop.uselist:
        return None
    source = processor.mapper if many_to_one else processor.parent
    target = processor.parent if many_to_one else processor.mapper
    pairs = []
    for left, right in processor.prop.synchronize_pairs:
        held = plain_attribute(source, left)
        referring = plain_attribute(target, right)
        if held is None or referring is None:
            return None
        if right.primary_key or is_watched(target, referring):
            return None
        pairs.append((held, referring))
    return Copying(processor, processor.key, tuple(pairs), set(), copied)


def _copy_from_one(copying: Copying, state: State, uow: Any) -> bool:
    """Copy the key to a new object from the object that it refers to. Return whether nothing else
    is left to do.
    """
    if state.key is not None or copying.key in state.__dict__.get("_pending_mutations", ()):
        return False
    row, key = state.dict, copying.key
    if key not in row:
        return key not in state.committed_state
    related = row[key]
    if related is None:
        return key not in state.committed_state or copying.clear(state, row)
    source = attributes.instance_state(related)
    return source in uow.states and copying.accepts(source) and copying.copy(source, state, row)


def _copy_to_many(copying: Copying, state: State, uow: Any) -> bool:
    """Copy the key from a new object to the objects that refer to it. Return whether nothing else
    is left to do.
    """
    if state.key is not None or copying.key in state.__dict__.get("_pending_mutations", ()):
        return False
    row, key = state.dict, copying.key
    if key not in row:
        return key not in state.committed_state
    if had_members(state, key):
        return False
    for related in _members(copying.processor.prop.uselist, row[key]):
        if related is None:
            return False
        target = attributes.instance_state(related)
        if (
            target.key is not None
            or uow.states.get(target) != (False, False)
            or not copying.accepts(target)
            or not copying.copy(state, target, target.dict)
        ):
            return False
    return True


def _members(uselist: bool, value: Any) -> Iterable[Any]:
    return collection_adapter(value) if uselist else (value,)
