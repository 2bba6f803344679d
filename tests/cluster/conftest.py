"""Tests on real clusters; without one a single line of the report says so."""

from __future__ import annotations

import os

from fixtures.cluster import VARIABLE

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_citus_*.py"]
