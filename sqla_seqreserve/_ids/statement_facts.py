"""The facts that decide whether one statement for many rows is the same as one statement per row:
SQL expressions on ``pg_class c``, and on ``pg_attribute a`` for its columns.
"""

from __future__ import annotations

from typing import Final

TRIGGERS: Final = """EXISTS (SELECT FROM pg_trigger t
                    WHERE (t.tgrelid = c.oid OR c.relkind = 'p' AND t.tgrelid IN
                           (SELECT relid FROM pg_partition_tree(c.oid)))
                      AND NOT t.tgisinternal AND t.tgenabled <> 'D'
                      AND t.tgtype & {mask} = {bits})"""
"""Whether the table has such a trigger. ``tgtype``: 1 for each row, 2 before, 4 on INSERT, 8 on
DELETE, 16 on UPDATE.
"""

WATCHED: Final = f"""ARRAY(
    SELECT k.kind FROM (VALUES ('insert', 4, '3'), ('update', 16, '2'), ('delete', 8, '4'))
                       k (kind, bit, event)
     WHERE {TRIGGERS.format(mask="k.bit", bits="k.bit")}
        OR EXISTS (SELECT FROM pg_rewrite r
                    WHERE r.ev_class = c.oid AND r.ev_type = k.event::"char"))"""  # noqa: S608  # no input
"""The kinds (insert, update, delete) for which a rule or a trigger exists. A row trigger finds the
other rows in the state between two statements, and may change them.
"""

_UNIQUE: Final = """FROM pg_index i
        WHERE (i.indrelid = c.oid
               OR c.relkind = 'p' AND i.indrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))
          AND (i.indisunique OR i.indisexclusion)"""

UNIQUE_INDEXES: Final = f"ARRAY(SELECT i.indexrelid {_UNIQUE} ORDER BY 1)::text"
"""A value that changes when a unique index or an exclusion constraint is created or dropped."""

IS_UNIQUE: Final = f"""EXISTS (
    SELECT {_UNIQUE}
       AND (a.attname IN (SELECT o.attname FROM pg_attribute o
                           WHERE o.attrelid = i.indrelid AND o.attnum = ANY(i.indkey))
            OR a.attname IN (SELECT o.attname FROM pg_depend d
                               JOIN pg_attribute o ON o.attrelid = d.refobjid
                                                  AND o.attnum = d.refobjsubid
                              WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                AND d.refclassid = 'pg_class'::regclass
                                AND d.refobjid = i.indrelid)))"""  # noqa: S608  # no input
"""Whether a unique index uses the column: in its key, its expressions or its predicate."""

IS_INHERITED: Final = "(c.relkind = 'r' AND c.relhassubclass)"
"""Whether other tables inherit from it, or once did."""

MAY_LOCK_ROWS: Final = "has_any_column_privilege(c.oid, 'UPDATE')"
"""Whether the role may lock rows, a privilege that DELETE does not need."""
