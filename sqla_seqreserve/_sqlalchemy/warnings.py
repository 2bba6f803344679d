"""Makes SQLAlchemy's warnings skip our stack frames, as they skip SQLAlchemy's own.

SQLAlchemy warns at the first line outside of its modules, so that filters by module find the
application's. Our unit of work stands between the two. The pattern that recognizes its own modules
is private (``util.langhelpers._not_sa_pattern``; Alembic is in it); in a release without it,
warnings point at us.
"""

from __future__ import annotations

import re

from sqlalchemy.util import langhelpers as _langhelpers


def pass_over_ours() -> None:
    """Make warnings treat this package as part of SQLAlchemy when they look for the line to
    report.
    """
    pattern = getattr(_langhelpers, "_not_sa_pattern", None)
    if pattern is not None and "sqla_seqreserve" not in pattern.pattern:
        _langhelpers._not_sa_pattern = re.compile(rf"{pattern.pattern}|^sqla_seqreserve\.")
