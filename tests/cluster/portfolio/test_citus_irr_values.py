"""``tests/integration/portfolio/test_irr_values.py`` on a Citus cluster."""

from integration.portfolio.test_irr_values import *  # noqa: F403  # its tests, whatever they are
