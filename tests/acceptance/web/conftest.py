"""The application, its client, and rows to refer to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fixtures.portal import client_of, portal
from sqlalchemy import Engine, text


@pytest.fixture
def app(portfolio_url: str) -> Iterator[FastAPI]:
    """The application on a migrated database, open to everybody."""
    with portal(portfolio_url) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
def holding(portfolio_engine: Engine) -> Engine:
    """A portfolio 1 with the product 1 and the funds 1 and 2, in the application's database."""
    with portfolio_engine.begin() as connection:
        for statement in (
            "INSERT INTO portfolios (portfolio_name) VALUES ('Pension')",
            "INSERT INTO portfolio_funds (portfolio_id, fund_name) VALUES (1, 'A'), (1, 'B')",
            "INSERT INTO client_products (product_name, portfolio_id) VALUES ('ISA', 1)",
        ):
            connection.execute(text(statement))
    return portfolio_engine
