"""Every private name of SQLAlchemy that this package leans on, for both lines, in this one place,
by part.

Read in SQLAlchemy 2.0.58 and 2.1.9. The 2.1 line puts an underscore before the names of the unit of
work; nothing else here differs between the two. When a release moves one,
``tests/unit/test_private_names.py`` fails with its name.

What is used, and why no public name would do:

``UOWTransaction``
    The unit of work of one flush. ``_flush`` runs the flush with a subclass of
    it.
``SaveUpdateAll``, ``SaveUpdateState``, and ``PostSortRec.__new__``
    The actions that insert and update. An action asked for a second time is looked up in
    ``postsort_actions`` by its class and arguments, so a subclass registered there under
    SQLAlchemy's key is executed in place of its own action.
``DeleteAll``, ``PostUpdateAll``, ``ManyToManyDP._run_crud`` and the steps of a DELETE
    Deleted objects and link rows travel with the other statements of a flush (``changes``).
``persistence``
    ``save_obj`` and the steps that it is made of. We run the same steps in the same order and
    replace the one that collects and sends the INSERT.
``CompileState.plugins``, and the classes for ORM INSERTs and UPDATEs in it
    The rows of ``insert(M)`` are made alike before SQLAlchemy makes statements of them, and those
    of ``insert(M)`` and ``update(M)`` are collected faster (``statement_classes``).
``sync``
    Copies a key from a table to the one that inherits from it.
Listeners as they were registered, ``_compiler_dispatcher`` of an element (``listeners``)
    No public name says who may change, replace or refuse a statement.
asyncpg's adapted connection and cursor (``adapted``)
    A COPY takes its turn, begins a transaction and fails as the cursor's own statements do.
``MetaData._sequences``, ``Column._copy``
    What the Alembic plugin compares, and how a column is rendered otherwise than it is declared.
``WeakInstanceDict`` members, ``InstanceState`` members
    Registering thousands of inserted objects as persistent in a tight loop.
"""

from __future__ import annotations

from typing import Any


def either(module: Any, name: str) -> Any:
    """The private ``name`` of 2.0, or its spelling in 2.1, with an underscore."""
    return getattr(module, name, None) or getattr(module, f"_{name}")
