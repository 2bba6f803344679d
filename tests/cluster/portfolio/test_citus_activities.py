"""``tests/integration/portfolio/test_activities.py`` on a Citus cluster."""

from integration.portfolio.test_activities import *  # noqa: F403  # its tests, whatever they are
