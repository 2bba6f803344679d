"""``tests/integration/portfolio/test_recalculation.py`` on a Citus cluster."""

from integration.portfolio.test_recalculation import *  # noqa: F403  # its tests, whatever they are
