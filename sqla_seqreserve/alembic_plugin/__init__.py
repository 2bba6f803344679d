"""Sequences in Alembic: operations for migrations, and an autogenerate that detects them.

Set-up is one line of ``env.py``, wherever its imports are::

    import sqla_seqreserve.alembic_plugin  # noqa: F401

It serves every project on SQLAlchemy and PostgreSQL, whether or not it uses the rest of this
package, with one database or several, sync or async. There is no entry point, because one breaks
``import alembic`` on Alembic 1.18.0 to 1.20.0. The plugin's name is
``alembic.autogenerate.sqla_seqreserve``, so Alembic's default ``autogenerate_plugins`` includes it.
To register it under a name of your own as well, call Alembic's ``Plugin.setup_plugin_from_module``
with this module.

Operations
==========

``op.create_sequence(name, ...)``
    Options as in ``Sequence()``; ``owned_by="table.column"``.
``op.alter_sequence(name, ...)``
    ``increment``, ``start``, ``restart``, ``minvalue``, ``maxvalue``, ``cache``, ``cycle``,
    ``data_type``, ``owned_by``, ``owner`` (the role), ``new_name``, ``new_schema``. Options that
    are not given stay; ``None`` removes a bound or the owning column.
``op.drop_sequence(name, ...)``
    ``if_exists=True`` is optional.
``op.resync_sequence(table, column)``
    Move the column's sequence beyond the column's values, after a data migration that wrote
    explicit keys. It takes locks, never moves the sequence back, and ignores values outside the
    sequence's bounds.
``op.adopt_sequence(table, column, name, ...)``
    Let a SERIAL, IDENTITY or bare column draw from a named sequence. The column owns it, and the
    sequence continues from the column's position.
``op.release_sequence(table, column, name, ...)``
    The reverse: ``serial="its_old_name"``, ``identity=sa.Identity()``, or bare with neither.

``op.distribute_table(table, column)``, ``op.reference_table(table)``, ``op.undistribute_table()``
    Spread a table over the nodes of Citus, or copy it to each, and the reverse. They do nothing if
    the database is not Citus; :mod:`.citus` explains them.

All take ``schema=``, and all work with ``--sql``: decisions that depend on the data are made inside
the server. Autogenerate writes the reverse of each into ``downgrade()``. A sequence that was moved
forward is not moved back: that would hand out values twice.

Autogenerate
============

A sequence is declared by ``Sequence(..., metadata=metadata)``, by being a column's default, or by
its ``next_value()`` being a column's ``server_default``. New, changed and removed sequences are
found, and put around the tables' operations in an order that works: CREATE SEQUENCE before the
table whose default needs it, OWNED BY after it, DROP last.

*Options.* An option that the declaration leaves open is PostgreSQL's default, except for the data
type, which stays as it is found. A sequence that changes its direction restarts within its new
bounds, and each column that draws from it gets an ``op.resync_sequence``.

*Ownership.* A new sequence is owned by the one column whose ``server_default`` draws from it. An
existing one may be owned or not, but a column that does not draw from it loses its ownership. To
set the owner yourself::

    order_numbers = Sequence("order_numbers", metadata=Base.metadata)
    order_numbers.info["owned_by"] = "orders.number"  # or the Column; or None: owned by no column

*Where a column's values come from.* A column that changes between SERIAL, IDENTITY and a named
sequence is adopted or released, so it keeps its position. A column that changes from one sequence
to another gets an ``op.resync_sequence``. This happens even if ``compare_server_default`` is off; a
callable given there is called first, and its decision applies. Alembic by itself compares two
``nextval()`` defaults by calling both, which uses up values; with this plugin it does not.

*What is never touched.* A sequence that the metadata does not declare is dropped only if these
migrations made it, and no remaining column default draws from it. They recognize it by its comment,
which :func:`~.operations.mark_of` makes: ``op.create_sequence`` and ``op.adopt_sequence`` set one
that names the version table, so two projects in one database do not drop each other's sequences.
(``tracked=False`` sets none. To mark a sequence that was made in another way, write the comment
with COMMENT ON SEQUENCE.) Sequences of SERIAL and IDENTITY columns, of extensions and of others
have no such comment. Dropping a table or a column drops the sequence that it owns, as in
PostgreSQL; the downgrade then creates it again.

*Filters.* ``include_name`` and ``include_object`` are called with the type ``"sequence"``; a
sequence that only columns of excluded tables draw from is excluded as well. Sequences of schemas
that autogenerate does not look at are compared only if declared.

What it cannot do: SQLAlchemy reflects a default of a table outside the default schema as if its
sequence were in the table's schema, and Alembic then fails, if it is in the default schema. Put the
sequence next to its table.
"""

from __future__ import annotations

from alembic import autogenerate  # noqa: F401 - its own comparators must be registered before ours
from alembic.runtime.plugins import Plugin

from . import adoption, citus, operations, render  # noqa: F401 - importing them registers them
from .compare import setup

__all__ = ["setup"]

setup(Plugin("alembic.autogenerate.sqla_seqreserve"))
