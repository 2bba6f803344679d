"""The edits of the grid: parsed, checked against the rows that they refer to, and sorted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import RowProblem

from ._histories import among, lock_portfolios, portfolios_of_funds
from .activity_rows import parse_amount, parse_id, parse_month, parse_type
from .irr_values import stored_rows
from .models import ClientProduct, HoldingActivityLog, PortfolioFundValuation

CURRENT_VALUE: Final = "Current Value"
"""The type of an edit that is a valuation."""


@dataclass(frozen=True, slots=True)
class TransactionEdit:
    """One cell of the grid, as it was edited. A deletion needs no value."""

    fund_id: int
    month: str
    activity_type: str
    value: str | None = None
    is_new: bool = False
    original_activity_id: int | None = None
    to_delete: bool = False


_ATTRIBUTES: Final = frozenset(each.name for each in fields(TransactionEdit))
_REQUIRED: Final = ("fund_id", "month", "activity_type")


@dataclass(frozen=True, slots=True)
class Cell:
    """A parsed edit: its values, as they are stored. A deletion's value is 0."""

    index: int
    fund_id: int
    month: dt.date
    activity_type: str
    value: Decimal
    original_id: int | None
    to_delete: bool

    @property
    def is_valuation(self) -> bool:
        """Whether the edit is of a valuation, not of an activity."""
        return self.activity_type.casefold() == CURRENT_VALUE.casefold()


@dataclass
class EditPlan:
    """The work to be done for a product, and all problems of its edits.

    An edit that cannot be parsed is only in the problems.
    """

    product_id: int
    activities: list[Cell] = field(default_factory=list)
    valuations: list[Cell] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    originals: dict[int, HoldingActivityLog] = field(default_factory=dict)
    stored_valuations: dict[tuple[int, dt.date], PortfolioFundValuation] = field(
        default_factory=dict
    )
    portfolio_of: dict[int, int] = field(default_factory=dict)
    changes: dict[int, dt.date] = field(default_factory=dict)

    @classmethod
    def of(cls, edits: Iterable[TransactionEdit | Mapping[str, Any]], product_id: int) -> EditPlan:
        """Parse the edits. No database in here."""
        plan = cls(product_id)
        edited: dict[tuple[object, ...], int] = {}
        for index, given in enumerate(edits):
            edit = given if isinstance(given, TransactionEdit) else plan._of_mapping(index, given)
            cell = None if edit is None else plan._parse(index, edit)
            if cell is None:
                continue
            if cell.is_valuation:
                target: tuple[object, ...] = ("valuation", cell.fund_id, cell.month)
            else:
                target = ("activity", cell.original_id or f"new {index}")
            first = edited.setdefault(target, index)
            if first != index:
                attribute = "month" if cell.is_valuation else "original_activity_id"
                plan.add_problem(index, attribute, f"edit {first} is of the same row")
            (plan.valuations if cell.is_valuation else plan.activities).append(cell)
        return plan

    def add_problem(self, index: int, attribute: str, problem: str) -> None:
        """Note what is wrong with an edit."""
        self.problems.append(RowProblem(index, attribute, problem))

    def note_change(self, fund_id: int, day: dt.date) -> None:
        """Note the earliest day on which the fund's portfolio changes."""
        portfolio = self.portfolio_of[fund_id]
        self.changes[portfolio] = min(day, self.changes.get(portfolio, day))

    def read(self, session: Session) -> None:
        """Read the rows that the edits refer to, and check the edits against them.

        Five queries, however many edits; the rows stay locked until the transaction ends.
        """
        product = select(ClientProduct.id).where(ClientProduct.id == self.product_id)
        if session.scalar(product) is None:
            self.add_problem(-1, "product_id", f"no product has the id {self.product_id}")
        self._read_originals(session)
        self._read_funds(session)
        lock_portfolios(session, set(self.portfolio_of.values()))
        self._read_valuations(session)
        self.problems.sort(key=lambda problem: problem.index)

    def _of_mapping(self, index: int, given: Mapping[str, Any]) -> TransactionEdit | None:
        unknown = [name for name in given if name not in _ATTRIBUTES]
        for name in unknown:
            self.add_problem(index, str(name), "is not an attribute of an edit")
        if unknown:
            return None
        # What is missing is a problem like any other, and is listed with them.
        values: dict[str, Any] = {**dict.fromkeys(_REQUIRED), **given}
        return TransactionEdit(**values)

    def _parse(self, index: int, edit: TransactionEdit) -> Cell | None:
        before = len(self.problems)

        def parsed(attribute: str, parse: Callable[[object], Any]) -> Any:
            try:
                return parse(getattr(edit, attribute))
            except ValueError as problem:
                self.add_problem(index, attribute, str(problem))
                return None

        cell = Cell(
            index=index,
            fund_id=parsed("fund_id", parse_id),
            month=parsed("month", parse_month),
            activity_type=parsed("activity_type", parse_type),
            value=Decimal(0) if edit.to_delete else parsed("value", parse_amount),
            original_id=(
                None
                if edit.original_activity_id is None
                else parsed("original_activity_id", parse_id)
            ),
            to_delete=edit.to_delete,
        )
        if len(self.problems) > before:
            return None
        if edit.original_activity_id is None and edit.to_delete and edit.is_new:
            # Added and deleted again before it was ever saved.
            return None
        if not cell.is_valuation and edit.original_activity_id is None and not edit.is_new:
            self.add_problem(
                index, "original_activity_id", "is missing: the edit is of an existing activity"
            )
            return None
        return cell

    def _read_originals(self, session: Session) -> None:
        activity = HoldingActivityLog
        ids = [cell.original_id for cell in self.activities if cell.original_id is not None]
        rows = session.scalars(
            select(activity)
            .where(among(activity.id, ids), activity.product_id == self.product_id)
            .order_by(activity.id)
            .with_for_update(),
            execution_options={"populate_existing": True},
        )
        self.originals = {row.id: row for row in rows}
        for cell in self.activities:
            if cell.original_id is not None and cell.original_id not in self.originals:
                problem = f"product {self.product_id} has no activity {cell.original_id}"
                self.add_problem(cell.index, "original_activity_id", problem)

    def _read_funds(self, session: Session) -> None:
        cells = [*self.activities, *self.valuations]
        ids = {cell.fund_id for cell in cells}
        ids |= {row.portfolio_fund_id for row in self.originals.values()}
        self.portfolio_of = portfolios_of_funds(session, ids)
        for cell in cells:
            if cell.fund_id not in self.portfolio_of:
                self.add_problem(cell.index, "fund_id", f"no fund has the id {cell.fund_id}")

    def _read_valuations(self, session: Session) -> None:
        self.stored_valuations = stored_rows(
            session,
            PortfolioFundValuation,
            ("portfolio_fund_id", "valuation_date"),
            [(cell.fund_id, cell.month) for cell in self.valuations],
        )
        for cell in self.valuations:
            if cell.to_delete and (cell.fund_id, cell.month) not in self.stored_valuations:
                problem = f"fund {cell.fund_id} has no valuation on {cell.month} to delete"
                self.add_problem(cell.index, "month", problem)
