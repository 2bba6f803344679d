"""An engine on a database that has the shop's tables, all empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.run_names import of_this_run
from fixtures.shop import Base
from sqlalchemy import Engine, create_engine, text

from sqla_seqreserve.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def shop_url(postgres_server: EmbeddedServer) -> Iterator[str]:
    """The URL of a database that the tests of one file use one after the other."""
    url = postgres_server.create_database(of_this_run("shop"))
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    yield url
    postgres_server.drop_database(of_this_run("shop"))


@pytest.fixture
def shop(shop_url: str) -> Iterator[Engine]:
    """An engine without remembered facts, on empty tables whose sequences start at one."""
    engine = create_engine(shop_url)
    empty(engine)
    yield engine
    engine.dispose()


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        # A test that failed may have left a session open, which must not hang those after it.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text("TRUNCATE customer, orders, tag, tagged RESTART IDENTITY"))
