"""Which sequence PostgreSQL numbers a column by when an INSERT leaves it out.

An identity is numbered by its own sequence, whatever default or owned sequence the column has
beside it. From PostgreSQL 17 on a partition has the identity of its topmost parent: the catalogue
keeps the partition's default from the time before it was attached, and INSERT does not evaluate it.
What is no identity is numbered by the sequence that it owns (serial), else by the one that its
default names; the default counts only as a bare ``nextval('...')``, for then its dependency on the
sequence is the whole of it.
"""

from __future__ import annotations

from typing import Final

from .defaults import BARE_NEXTVAL

NUMBERED_BY: Final = rf"""
          SELECT 1 AS rank, x.objid AS oid
            FROM pg_depend x
           WHERE x.refclassid = 'pg_class'::regclass AND x.refobjid = c.oid
             AND x.refobjsubid = a.attnum AND x.classid = 'pg_class'::regclass
             AND (x.deptype = 'i' OR x.deptype = 'a' AND a.attidentity = '')
          UNION ALL
          SELECT 2, x.objid
            FROM pg_attribute y
            JOIN pg_depend x ON x.refobjid = y.attrelid AND x.refobjsubid = y.attnum
           WHERE c.relispartition AND a.attidentity <> ''
             AND y.attrelid = pg_partition_root(c.oid) AND y.attname = a.attname
             AND x.refclassid = 'pg_class'::regclass AND x.classid = 'pg_class'::regclass
             AND x.deptype = 'i'
          UNION ALL
          SELECT 3, x.refobjid
            FROM pg_depend x
           WHERE x.classid = 'pg_attrdef'::regclass AND x.objid = d.oid
             AND x.refclassid = 'pg_class'::regclass
             AND pg_get_expr(d.adbin, d.adrelid) ~ {BARE_NEXTVAL}"""  # noqa: S608  # the pattern above, no input
"""The sequences of a column with their rank, as SQL within a query that has ``pg_class c``,
``pg_attribute a`` and, unless the column is an identity, ``pg_attrdef d``.
"""
