"""Has SQLAlchemy's warnings pass over our frames, as they pass over its own.

SQLAlchemy warns at the first line outside of it, so that filters by module find the application's.
Our unit of work stands between the two. The pattern that tells its own modules is private
(``util.langhelpers._not_sa_pattern``; Alembic is in it); where a release has none, warnings point
at us.
"""

from __future__ import annotations

import re

from sqlalchemy.util import langhelpers as _langhelpers


def pass_over_ours() -> None:
    """Count this package to SQLAlchemy where a warning looks for the line that it is about."""
    pattern = getattr(_langhelpers, "_not_sa_pattern", None)
    if pattern is not None and "sqla_seqreserve" not in pattern.pattern:
        _langhelpers._not_sa_pattern = re.compile(rf"{pattern.pattern}|^sqla_seqreserve\.")
