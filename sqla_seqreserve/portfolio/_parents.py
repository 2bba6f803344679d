"""The rows that activities refer to, read for many activities at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import RowProblem

from ._histories import among, portfolios_of_funds
from .activity_rows import ActivityRow
from .models import ClientProduct


@dataclass(frozen=True)
class Parents:
    """The funds that exist, each with its portfolio, and the products that exist."""

    portfolio_of: dict[int, int]
    products: set[int]

    def problems(self, index: int, activity: ActivityRow) -> list[RowProblem]:
        """Return the references of the activity to rows that do not exist."""
        problems = []
        fund, product = activity.portfolio_fund_id, activity.product_id
        if fund is not None and fund not in self.portfolio_of:
            problem = f"no fund has the id {fund}"
            problems.append(RowProblem(index, "portfolio_fund_id", problem))
        if product is not None and product not in self.products:
            problem = f"no product has the id {product}"
            problems.append(RowProblem(index, "product_id", problem))
        return problems


def read_parents(session: Session, activities: Iterable[ActivityRow]) -> Parents:
    """Read the funds and products that the activities refer to, in two queries."""
    activities = list(activities)
    funds = {each.portfolio_fund_id for each in activities if each.portfolio_fund_id is not None}
    products = {each.product_id for each in activities if each.product_id is not None}
    return Parents(
        portfolios_of_funds(session, funds),
        set(session.scalars(select(ClientProduct.id).where(among(ClientProduct.id, products)))),
    )
