"""What the server fills a column with if an INSERT omits it: the next value of a sequence, or a
default that it computes for each row and that can be evaluated before the row exists
(``gen_random_uuid()``, ``uuidv7()``, a function of the application's).

An identity is numbered by its own sequence, even if the column also has a default or owns another
sequence. From PostgreSQL 17 on, a partition has the identity of its topmost parent: the catalogue
keeps the partition's default from the time before it was attached, and INSERT does not evaluate it.
Other columns are numbered by the sequence that they own (serial), else by the one that their
default names. The default counts only if it is a bare ``nextval('...')``, since only then it
depends on nothing but the sequence.

A default is evaluated if it contains a function that PostgreSQL calls volatile, and none that
depends on the transaction or the session. It is evaluated as text (``pg_get_expr``), in which names
are qualified as the present ``search_path`` requires. So the database first compares the text,
which detects a changed path, or a new function that hides the intended one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .. import _reasons as why
from .._reasons import Reason


@dataclass(frozen=True, slots=True)
class DefaultFacts:
    """A default that gives another value each time, as SQL under the present ``search_path``, and
    the reason why it must not be evaluated beforehand; ``None``: it may be.
    """

    expression: str
    problem: Reason | None


BARE_NEXTVAL: Final = r"'^(pg_catalog\.)?(worker_)?nextval\(''[^'']*(''''[^'']*)*''::regclass\)$'"
"""A pattern, as SQL, that matches a default that is the next value of one sequence and nothing
else.
"""

NUMBERED_BY: Final = rf"""
          SELECT CASE WHEN EXISTS (
                     SELECT FROM pg_depend y
                      WHERE y.classid = 'pg_attrdef'::regclass AND y.objid = d.oid
                        AND y.refclassid = 'pg_class'::regclass AND y.refobjid = x.objid
                 ) THEN 0 ELSE 1 END AS rank, x.objid AS oid
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
``pg_attribute a`` and, unless the column is an identity, ``pg_attrdef d``. Of several that a column
owns, the one that its default draws from comes first.
"""

# The declared volatility of a default's functions decides whether it can be evaluated before its
# row exists. Its dependencies do not include PostgreSQL's own functions, so they are read from its
# expression tree; operators are functions there too. A stable function without arguments (now(),
# pg_backend_pid()), and the few named here, depend on the transaction or the session; CURRENT_USER
# and the like are nodes of their own. Unlike INSERT, evaluating the text needs USAGE of the schemas
# that it names.
DEFAULT: Final = rf"""
          SELECT pg_get_expr(d.adbin, d.adrelid) AS expression,
                 coalesce(bool_or(f.provolatile = 'v'), false)
                     AND NOT bool_or(f.pronamespace = 'pg_catalog'::regnamespace
                         AND (f.provolatile = 's' AND f.pronargs = 0
                              OR f.proname IN ('currval', 'lastval', 'setval', 'set_config',
                                               'current_query', 'current_setting',
                                               'current_schemas')))
                     AND d.adbin::text !~ '\{{SQLVALUEFUNCTION '
                     AND pg_get_expr(d.adbin, d.adrelid) !~ {BARE_NEXTVAL} AS is_fresh,
                 bool_and(has_function_privilege(f.oid, 'EXECUTE')) AND NOT EXISTS (
                     SELECT FROM pg_depend x
                       LEFT JOIN pg_proc xf ON x.refclassid = 'pg_proc'::regclass
                           AND xf.oid = x.refobjid
                       LEFT JOIN pg_type xt ON x.refclassid = 'pg_type'::regclass
                           AND xt.oid = x.refobjid
                       LEFT JOIN pg_operator xo ON x.refclassid = 'pg_operator'::regclass
                           AND xo.oid = x.refobjid
                       LEFT JOIN pg_class xs ON x.refclassid = 'pg_class'::regclass
                           AND xs.oid = x.refobjid AND xs.relkind = 'S'
                      WHERE x.classid = 'pg_attrdef'::regclass AND x.objid = d.oid
                        AND NOT has_schema_privilege(
                            coalesce(xf.pronamespace, xt.typnamespace, xo.oprnamespace,
                                     xs.relnamespace, 'pg_catalog'::regnamespace), 'USAGE'))
                     AS is_allowed
            FROM regexp_matches(d.adbin::text, ':(func|opfunc)id (\d+)', 'g') AS m (found)
            JOIN pg_proc f ON f.oid = m.found[2]::oid
           WHERE b.typnamespace = 'pg_catalog'::regnamespace
             AND b.typname IN ('int2', 'int4', 'int8', 'uuid', 'text', 'varchar')
             AND a.attgenerated = ''"""  # noqa: S608  # the pattern above, no input
"""The facts of a default, as SQL within a query that has ``pg_attrdef d`` and, for its column,
``pg_attribute a`` and ``pg_type b``, the type below any domain.
"""


# now(), gen_random_uuid(), CURRENT_TIMESTAMP and the like; a constant time may be infinite.
SURELY_READ: Final = r"""
           coalesce(d.adbin::text ~ '^\{(FUNCEXPR .funcid (1299|3432)|SQLVALUEFUNCTION) '
               OR d.adbin::text ~ '^\{CONST ' AND b.typcategory <> 'D', false)"""
"""Whether a default gives a constant, the present time or a random UUID and nothing else, as SQL
within the same query.
"""


def default_of(row: Any) -> DefaultFacts | None:
    """Return the default in a row of the query; ``None`` if it is left to the server."""
    # A backslash has a special meaning in SQLAlchemy's text(), and so has a dollar sign where a
    # driver numbers parameters.
    if not row.is_fresh or "\\" in row.expression or "$" in row.expression:
        return None
    problem = None
    if not row.is_allowed:
        problem = why.default_not_allowed(row.column_name)
    return DefaultFacts(row.expression, problem)
