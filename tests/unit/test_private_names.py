"""Every private name of SQLAlchemy that we use exists in the installed release."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_cursor,
)
from sqlalchemy.orm import (
    Session,
    SessionTransaction,
    bulk_persistence,
    mapperlib,
    persistence,
    registry,
    sync,
    unitofwork,
)
from sqlalchemy.sql import util as sql_util
from sqlalchemy.sql.base import CompileState
from sqlalchemy.util import langhelpers

from sqla_seqreserve import _sqlalchemy
from sqla_seqreserve._sqlalchemy import either
from sqla_seqreserve._sqlalchemy.changes import (
    delete_obj,
    organize_states_for_delete,
)
from sqla_seqreserve._sqlalchemy.engine import StatementContext
from sqla_seqreserve._sqlalchemy.persistence import (
    collect_insert_commands,
    finalize_saved,
    organize_states_for_save,
    save_obj,
)
from sqla_seqreserve._sqlalchemy.unit_of_work import (
    DeleteAll,
    ManyToMany,
    PostUpdateAll,
    SaveUpdateAll,
    SaveUpdateState,
    UOWTransaction,
)

LINE = sqlalchemy.__version__

mapping = registry()
parents = Table("parent", MetaData(), Column("id", BigInteger, primary_key=True))
children = Table(
    "child", parents.metadata, Column("id", Integer, ForeignKey("parent.id"), primary_key=True)
)


class Parent:
    pass


class Child(Parent):
    pass


mapping.map_imperatively(Parent, parents)
mapping.map_imperatively(Child, children, inherits=Parent)
mapping.configure()
MAPPER = Child.__mapper__  # type: ignore[attr-defined]  # put there by map_imperatively()
SESSION = Session(create_engine("sqlite://"))
UOW = unitofwork.UOWTransaction(SESSION)
STATE = sqlalchemy.inspect(Child())
SESSION.begin()
CONNECTION = SESSION.connection()
parents.create(CONNECTION)

# What the module's own expressions reach through, by the name that stands before the dot there.
OWNERS = {
    "_persistence": persistence,
    "adapted": AsyncAdapt_asyncpg_connection,
    "cursor": AsyncAdapt_asyncpg_cursor,
    "_adapt_connection": AsyncAdapt_asyncpg_connection,
    "_sync": sync,
    "_unitofwork": unitofwork,
    "mapper": MAPPER,
    "parent": MAPPER,
    "base_mapper": MAPPER,
    "mapperlib": mapperlib,
    "type_": BigInteger(),
    "dialect_impl": BigInteger().dialect_impl(SESSION.get_bind().dialect),
    "session": SESSION,
    "_autobegin_t": SESSION.get_transaction(),
    "transaction": SESSION.get_transaction(),
    "listeners": Session.dispatch.before_commit,  # type: ignore[attr-defined]  # put there by events
    "identity_map": SESSION.identity_map,
    "state": STATE,
    "InstanceState": STATE,
    "column": parents.c.id,
    "table": parents,
    "metadata": parents.metadata,
    "classes": MAPPER.registry,
    "connection": CONNECTION,
    "engine": CONNECTION.engine,
    "dialect": CONNECTION.dialect,
    "statement": insert(parents),
    "update": update(parents),
    "context_class": CONNECTION.dialect.execution_ctx_cls,
    "context": CONNECTION.execute(insert(parents).values(id=1)).context,
    "_sql_util": sql_util,
    "_langhelpers": langhelpers,
    "compiled": insert(parents).compile(dialect=CONNECTION.dialect),
    "owner": MAPPER,
    "found": MAPPER,
    "super": CONNECTION.dialect.execution_ctx_cls,
    "options": either(bulk_persistence, "BulkORMInsert").default_insert_options,
    "cls": either(bulk_persistence, "BulkORMInsert"),
    "batch": None,
    # Our own.
    "self": StatementContext(CONNECTION, None),
    "insert": StatementContext(CONNECTION, None),
    "dispatch": Child.id.dispatch,  # type: ignore[attr-defined]  # put there by map_imperatively()
}


def private_names() -> list[tuple[str, str]]:
    """(what stands before the dot, private attribute) for every attribute that
    ``_sqlalchemy`` reads or sets.
    """
    found = set()
    sources = [path.read_text() for path in sorted(Path(_sqlalchemy.__file__).parent.glob("*.py"))]
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            if isinstance(owner, ast.Call):
                owner = owner.func
            name = owner.attr if isinstance(owner, ast.Attribute) else ast.unparse(owner)
            if not node.attr.startswith("__"):
                found.add((name, node.attr))
    return sorted(found)


def test_the_names_are_read() -> None:
    """The reader sees the names that this test rests on."""
    names = private_names()
    assert ("_persistence", "_collect_insert_commands") in names
    assert ("mapper", "_pks_by_table") in names
    unknown = {owner for owner, _ in names} - OWNERS.keys()
    assert not unknown, f"say in OWNERS what these stand for: {unknown}"


@pytest.mark.parametrize(("owner", "name"), private_names())
def test_sqlalchemy_has_the_name(owner: str, name: str) -> None:
    """A release that moves one of them fails here, with its name."""
    assert hasattr(OWNERS[owner], name), f"SQLAlchemy {LINE}: {OWNERS[owner]!r} has no {name}"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (UOWTransaction, "_per_mapper_flush_actions"),
        (UOWTransaction, "_generate_actions"),
        (UOWTransaction, "execute"),
        (UOWTransaction, "finalize_flush_changes"),
        (UOWTransaction, "states_for_mapper_hierarchy"),
        (UOW, "session"),
        (UOW, "mappers"),
        (UOW, "states"),
        (UOW, "deps"),
        (UOW, "postsort_actions"),
        (SessionTransaction, "_prepare_impl"),
        (Session, "_register_persistent"),
        (Session, "_register_altered"),
        (Session, "_remove_newly_deleted"),
        (CompileState, "plugins"),
        (CompileState.plugins["orm", "insert"], "orm_execute_statement"),
        (CompileState.plugins["orm", "update"], "orm_execute_statement"),
        (CompileState.plugins["orm", "update"], "orm_setup_cursor_result"),
        (SaveUpdateAll, "execute"),
        (SaveUpdateAll, "per_state_flush_actions"),
        (SaveUpdateState, "execute_aggregate"),
        (DeleteAll, "execute"),
        (PostUpdateAll, "execute"),
        (ManyToMany, "_run_crud"),
        (ManyToMany, "process_saves"),
        (ManyToMany, "process_deletes"),
        (STATE, "manager"),
        (STATE, "committed_state"),
        (STATE, "insert_order"),
    ],
)
def test_sqlalchemy_has_the_hook(owner: object, name: str) -> None:
    """What the flush overrides, and reads from the unit of work, is there under its name."""
    assert hasattr(owner, name), f"SQLAlchemy {LINE}: {owner!r} has no {name}"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (save_obj, ["base_mapper", "states", "uowtransaction", "single"]),
        (organize_states_for_save, ["base_mapper", "states", "uowtransaction"]),
        (collect_insert_commands, ["table", "states_to_insert", "bulk", "return_defaults"]),
        (
            persistence._collect_update_commands,
            ["uowtransaction", "table", "states_to_update", "bulk"],
        ),
        (finalize_saved, ["base_mapper", "uowtransaction", "states"]),
        (delete_obj, ["base_mapper", "states", "uowtransaction"]),
        (organize_states_for_delete, ["base_mapper", "states", "uowtransaction"]),
        (
            persistence._collect_delete_commands,
            ["base_mapper", "uowtransaction", "table", "states_to_delete"],
        ),
    ],
)
def test_a_step_takes_what_we_give_it(function: object, parameters: list[str]) -> None:
    """The steps of a save have the parameters that they are called with."""
    assert callable(function)
    found = list(inspect.signature(function).parameters)
    assert [name for name in parameters if name not in found] == []
    assert found[0] == parameters[0]


def test_an_action_is_registered_under_its_class_and_mapper() -> None:
    """The unit of work looks an action up under (class, mapper), which is where the flush finds
    it.
    """
    uow = unitofwork.UOWTransaction(SESSION)
    action = SaveUpdateAll(uow, MAPPER.base_mapper)
    assert uow.postsort_actions[SaveUpdateAll, MAPPER.base_mapper] is action
    assert SaveUpdateAll(uow, MAPPER.base_mapper) is action
