"""The unit of work, and the actions that it executes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Table
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm import attributes as _attributes
from sqlalchemy.orm import dependency as _dependency
from sqlalchemy.orm import unitofwork as _unitofwork
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.util import topological as _topological

from . import either

State: TypeAlias = InstanceState[Any]

if TYPE_CHECKING:
    from typing import ClassVar

    class UOWTransaction:
        """What we use of the unit of work, typed: SQLAlchemy's own class carries no annotations."""

        session: Session
        attributes: dict[Any, Any]
        mappers: dict[Mapper[Any], set[State]]
        states: dict[State, tuple[bool, bool]]
        presort_actions: dict[Any, Any]
        postsort_actions: dict[Any, Any]
        dependencies: set[tuple[Any, Any]]
        transaction: Any

        def register_object(
            self,
            state: State,
            isdelete: bool = False,
            listonly: bool = False,
            cancel_delete: bool = False,
            operation: str | None = None,
            prop: Any = None,
        ) -> bool: ...
        def get_attribute_history(self, state: State, key: str, passive: Any = ...) -> Any: ...
        def _per_mapper_flush_actions(self, mapper: Mapper[Any]) -> None: ...
        def _generate_actions(self) -> set[Any]: ...
        def execute(self) -> None: ...
        def finalize_flush_changes(self) -> None: ...
        def states_for_mapper_hierarchy(
            self, mapper: Mapper[Any], isdelete: bool, listonly: bool
        ) -> Iterator[State]: ...

    class _SaveAction:
        sort_key: ClassVar[Any]
        mapper: Mapper[Any]

        def __init__(self, uow: UOWTransaction, subject: Any) -> None: ...
        def execute(self, uow: UOWTransaction) -> None: ...

    class SaveUpdateAll(_SaveAction):
        def per_state_flush_actions(self, uow: UOWTransaction) -> Iterator[Any]: ...

    class DeleteAll(_SaveAction):
        pass

    class PostUpdateAll:
        mapper: Mapper[Any]

        def execute(self, uow: UOWTransaction) -> None: ...

    class ManyToMany:
        parent: Mapper[Any]
        mapper: Mapper[Any]
        secondary: Table

        def process_deletes(self, uowcommit: UOWTransaction, states: Iterable[State]) -> None: ...
        def process_saves(self, uowcommit: UOWTransaction, states: Iterable[State]) -> None: ...

        def _run_crud(
            self,
            uowcommit: UOWTransaction,
            secondary_insert: list[dict[str, Any]],
            secondary_update: list[dict[str, Any]],
            secondary_delete: list[dict[str, Any]],
        ) -> None: ...

    class ProcessAll:
        dependency_processor: Any
        isdelete: bool
        fromparent: bool

        def execute(self, uow: UOWTransaction) -> None: ...
        def _elements(self, uow: UOWTransaction) -> Iterator[State]: ...

    class ProcessState:
        def execute_aggregate(self, uow: UOWTransaction, recs: set[Any]) -> None: ...

    class SaveUpdateState(_SaveAction):
        state: State

        def execute_aggregate(self, uow: UOWTransaction, recs: set[Any]) -> None: ...

else:
    UOWTransaction = _unitofwork.UOWTransaction
    DeleteAll = either(_unitofwork, "DeleteAll")
    ManyToMany = either(_dependency, "ManyToManyDP")
    PostUpdateAll = either(_unitofwork, "PostUpdateAll")
    ProcessAll = either(_unitofwork, "ProcessAll")
    ProcessState = either(_unitofwork, "ProcessState")
    SaveUpdateAll = either(_unitofwork, "SaveUpdateAll")
    SaveUpdateState = either(_unitofwork, "SaveUpdateState")

HISTORY_BLANK: Any = _attributes.HISTORY_BLANK


def pending_by_mapper(uow: UOWTransaction) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found


def presort(uow: UOWTransaction) -> None:
    """Let the relationships register every object that the flush concerns, as the unit of work does
    before it sorts: what has been looked at is not looked at again.
    """
    looking = True
    while looking:
        looking = False
        for action in list(uow.presort_actions.values()):
            if action.execute(uow):
                looking = True


def find_cycles(uow: UOWTransaction) -> set[Any]:
    """Return the actions that depend on each other in a cycle, as the unit of work finds them."""
    return set(_topological.find_cycles(uow.dependencies, list(uow.postsort_actions.values())))


def check_polymorphic_identities(records: Iterable[tuple[State, dict[str, Any], Any, Any]]) -> None:
    """Warn about objects whose polymorphic identity is not one of their class, as SQLAlchemy's
    first pass does.
    """
    for state, row, mapper, _ in records:
        validate = mapper._validate_polymorphic_identity
        if validate is not None:
            validate(mapper, state, row)
