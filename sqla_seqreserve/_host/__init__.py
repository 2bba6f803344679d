"""Every private name of SQLAlchemy that this package leans on, for both lines, in this one place,
by part.

Read in SQLAlchemy 2.0.58 and 2.1.9. The 2.1 line puts an underscore before the names of the unit of
work; nothing else here differs between the two. ``tests/unit/test_host.py`` fails with the name
when a release moves one.

What is used, and why no public name would do:

``UOWTransaction``
    The unit of work of one flush. ``_flush`` runs the flush with a subclass of
    it.
``SaveUpdateAll``, ``SaveUpdateState``, and ``PostSortRec.__new__``
    The actions that insert and update. An action asked for a second time is looked up in
    ``postsort_actions`` by its class and arguments, so a subclass registered there under the stock
    key is executed in place of the stock action.
``DeleteAll``, ``PostUpdateAll``, ``ManyToManyDP._run_crud`` and the steps of a DELETE
    Deleted objects and link rows travel with the other statements of a flush (``changes``).
``persistence``
    ``save_obj`` and the steps that it is made of. We run the same steps in the same order and
    replace the one that collects and sends the INSERT.
``sync``
    Copies a key from a table to the one that inherits from it.
Listeners as they were registered, ``_compiler_dispatcher`` of an element (``listeners``)
    Who may change, replace or refuse a statement is told by nothing public.
asyncpg's adapted connection and cursor (``engine``)
    A COPY takes its turn, begins a transaction and fails as the cursor's own statements do.
``MetaData._sequences``, ``Column._copy``
    What the Alembic plugin compares, and how a column is rendered otherwise than it is declared.
``WeakInstanceDict`` members, ``InstanceState`` members
    Registering thousands of inserted objects as persistent in a tight loop.
"""

from __future__ import annotations

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import CALLABLES_OK, NO_VALUE, PASSIVE_NO_INITIALIZE
from sqlalchemy.orm.collections import collection_adapter

from .adapted import (
    adapted_statement,
    await_adapted,
    begin_adapted,
    begins_adapted,
    prepare_adapted,
    rollback_adapted,
    set_adapted_rowcount,
)
from .changes import (
    LinkKind,
    check_deleted,
    check_links,
    check_updated,
    collect_delete_commands,
    delete_obj,
    delete_statement,
    emit_delete_statements,
    has_version,
    link_statement,
    organize_states_for_delete,
    postfetch_update,
    tell_deleted,
    update_brings_back,
    update_kind,
    update_statement,
)
from .engine import (
    MadeValues,
    StatementContext,
    autocommits,
    await_driver,
    compiled_cache,
    driver_cursor,
    sees_the_present,
    sends_as_it_is,
    statement_context,
)
from .listeners import OURS, execution_elsewhere, interference
from .mapping import (
    all_mappers,
    attributes_to_columns,
    bind_processor,
    casts_each,
    copy_column,
    declared_sequences,
    declares_value,
    hands_on_keys,
    has_bind_expression,
    has_work_after_insert,
    has_work_after_update,
    inherits_key,
    insert_cast,
    insert_orm_defaults,
    is_sentinel,
    is_watched,
    kept_with,
    key_columns,
    plain_attribute,
    plain_callable,
    polymorphic_attribute,
    prefers_eager_defaults,
    registry_of,
    result_processor,
    returns_every_column,
    server_default_columns,
    tables_in_order,
    watches_delete,
    watches_deleted,
    watches_insert,
    watches_update,
    writes_to,
)
from .persistence import (
    IN_ORDER,
    ROWS_COUNTED,
    collect_insert_commands,
    collect_update_commands,
    compares_versions,
    emit_insert_statements,
    emit_update_statements,
    finalize_saved,
    insert_statement,
    organize_states_for_save,
    postfetch,
    save_in_order,
    save_obj,
    synchronize_inherited_keys,
)
from .savepoint import out_of_use, savepoint, transaction_of
from .session import (
    connection_for,
    expire_attributes,
    expire_unmodified,
    had_members,
    has_one_bind,
    instances_of,
    is_sharded,
    peek_connection,
    peek_dialect,
    pending_mutations,
    pending_states,
    persistent_of,
    register_deleted,
    register_inserted,
    register_persistent,
    remove_deleted,
)
from .unit_of_work import (
    HISTORY_BLANK,
    DeleteAll,
    ManyToMany,
    PostUpdateAll,
    ProcessAll,
    SaveUpdateAll,
    SaveUpdateState,
    State,
    UOWTransaction,
    check_polymorphic_identities,
    find_cycles,
    presort,
)
from .waiting import before_next_statement, nothing_before_next_statement
from .warnings import pass_over_ours

__all__ = [
    "CALLABLES_OK",
    "HISTORY_BLANK",
    "IN_ORDER",
    "NO_VALUE",
    "OURS",
    "PASSIVE_NO_INITIALIZE",
    "ROWS_COUNTED",
    "DeleteAll",
    "LinkKind",
    "MadeValues",
    "ManyToMany",
    "PostUpdateAll",
    "ProcessAll",
    "SaveUpdateAll",
    "SaveUpdateState",
    "State",
    "StatementContext",
    "UOWTransaction",
    "adapted_statement",
    "all_mappers",
    "attributes_to_columns",
    "autocommits",
    "await_adapted",
    "await_driver",
    "before_next_statement",
    "begin_adapted",
    "begins_adapted",
    "bind_processor",
    "casts_each",
    "check_deleted",
    "check_links",
    "check_polymorphic_identities",
    "check_updated",
    "collect_delete_commands",
    "collect_insert_commands",
    "collect_update_commands",
    "collection_adapter",
    "compares_versions",
    "compiled_cache",
    "connection_for",
    "copy_column",
    "declared_sequences",
    "declares_value",
    "delete_obj",
    "delete_statement",
    "driver_cursor",
    "emit_delete_statements",
    "emit_insert_statements",
    "emit_update_statements",
    "execution_elsewhere",
    "expire_attributes",
    "expire_unmodified",
    "finalize_saved",
    "find_cycles",
    "had_members",
    "hands_on_keys",
    "has_bind_expression",
    "has_one_bind",
    "has_version",
    "has_work_after_insert",
    "has_work_after_update",
    "inherits_key",
    "insert_cast",
    "insert_orm_defaults",
    "insert_statement",
    "instance_state",
    "instances_of",
    "interference",
    "is_sentinel",
    "is_sharded",
    "is_watched",
    "kept_with",
    "key_columns",
    "link_statement",
    "nothing_before_next_statement",
    "organize_states_for_delete",
    "organize_states_for_save",
    "out_of_use",
    "pass_over_ours",
    "peek_connection",
    "peek_dialect",
    "pending_mutations",
    "pending_states",
    "persistent_of",
    "plain_attribute",
    "plain_callable",
    "polymorphic_attribute",
    "postfetch",
    "postfetch_update",
    "prefers_eager_defaults",
    "prepare_adapted",
    "presort",
    "register_deleted",
    "register_inserted",
    "register_persistent",
    "registry_of",
    "remove_deleted",
    "result_processor",
    "returns_every_column",
    "rollback_adapted",
    "save_in_order",
    "save_obj",
    "savepoint",
    "sees_the_present",
    "sends_as_it_is",
    "server_default_columns",
    "set_adapted_rowcount",
    "statement_context",
    "synchronize_inherited_keys",
    "tables_in_order",
    "tell_deleted",
    "transaction_of",
    "update_brings_back",
    "update_kind",
    "update_statement",
    "watches_delete",
    "watches_deleted",
    "watches_insert",
    "watches_update",
    "writes_to",
]
