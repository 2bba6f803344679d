"""Tests on real clusters. If the environment names no Citus cluster, the files of its tests are not
collected.
"""

from __future__ import annotations

import os

from fixtures.cluster import VARIABLE

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_citus_*.py"]
