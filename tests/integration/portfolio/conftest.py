"""A registered session on the portfolio's tables, holdings to work with, and a function that runs
work in threads.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from sqla_seqreserve import register


@pytest.fixture
def session(portfolio_engine: Engine) -> Iterator[Session]:
    """A registered session on an empty, migrated database."""
    with Session(portfolio_engine) as session:
        register(session, reserve="always")
        yield session


@pytest.fixture
def holding(session: Session) -> Holding:
    """A portfolio with two active funds."""
    return make_holding(session)


@pytest.fixture
def in_threads() -> Callable[[Callable[[], object], int], None]:
    """A function that runs another in many threads at once, and raises their first error."""

    def run(work: Callable[[], object], threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()

    return run


@pytest.fixture
def two_portfolio_engines(
    portfolio_template: str, clone_database: Callable[[str], str]
) -> Iterator[tuple[Engine, Engine]]:
    """Engines on two migrated, empty databases."""
    engines = [create_engine(clone_database(portfolio_template)) for _ in range(2)]
    yield engines[0], engines[1]
    for engine in engines:
        engine.dispose()
