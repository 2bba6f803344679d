"""``tests/integration/portfolio/test_recalculation.py`` on a Citus cluster."""

from collections import Counter

from integration.portfolio.test_recalculation import *  # noqa: F403  # its tests, whatever they are
from integration.portfolio.test_recalculation import statements
from sqlalchemy import Engine


def test_statements_do_not_grow(portfolio_engine: Engine) -> None:
    """On Citus too, recalculating many funds, dates and portfolios takes as many statements of each
    kind as one fund; each COPY takes a savepoint, and two statements for the mode of its shards.
    """

    def kinds(portfolios: int, funds: int, dates: int) -> Counter[str]:
        sent = statements(portfolio_engine, portfolios=portfolios, funds=funds, dates=dates)
        return Counter(statement.split(None, 1)[0] for statement in sent)

    kinds(1, 1, 30)
    small, large = kinds(1, 1, 30), kinds(3, 12, 60)
    assert large == small
    assert large == {
        "COPY": 3,
        "DELETE": 1,
        "RELEASE": 3,
        "SAVEPOINT": 3,
        "SELECT": 18,
        "UPDATE": 1,
    }
