"""Edits of the grid: three phases, saved all or none, with the same result in each mode."""

from datetime import UTC, date
from random import Random

import pytest
from factory.random import reseed_random
from fixtures.portfolio_holdings import Holding, make_holding
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.portfolio.models import (
    Base,
    HoldingActivityLog,
    PortfolioFundValuation,
)
from sqla_seqreserve.portfolio.transactions import (
    TransactionCoordinator,
    TransactionEdit,
    TransactionResult,
)
from sqla_seqreserve.testing import record_statements


def save(holding: Holding, *edits: TransactionEdit) -> TransactionResult:
    return TransactionCoordinator(holding.session).save(edits, holding.product.id)


def activities(holding: Holding) -> list[tuple[int, str, str, str]]:
    positions = {fund.id: position for position, fund in enumerate(holding.funds)}
    holding.session.expire_all()
    return [
        (
            positions[row.portfolio_fund_id],
            row.activity_type,
            row.activity_timestamp.astimezone(UTC).date().isoformat(),
            str(row.amount),
        )
        for row in holding.session.scalars(
            select(HoldingActivityLog)
            .where(HoldingActivityLog.product_id == holding.product.id)
            .order_by(HoldingActivityLog.id)
        )
    ]


def valuations(holding: Holding) -> dict[tuple[int, str], str]:
    positions = {fund.id: position for position, fund in enumerate(holding.funds)}
    value = PortfolioFundValuation
    return {
        (positions[fund], day.isoformat()): str(amount)
        for fund, day, amount in holding.session.execute(
            select(value.portfolio_fund_id, value.valuation_date, value.valuation)
        )
    }


def fund(holding: Holding, position: int = 0) -> int:
    return holding.funds[position].id


def test_new_changed_deleted_and_valued(holding: Holding) -> None:
    """One save inserts, updates and deletes activities, sets valuations, and recalculates."""
    kept = holding.log(0, "Investment", "2024-01-15", 9000)
    gone = holding.log(1, "Investment", "2024-01-15", 1)
    result = save(
        holding,
        TransactionEdit(fund(holding), "2024-01", "Investment", "10000", False, kept.id),
        TransactionEdit(
            fund(holding, 1), "2024-01", "Investment", original_activity_id=gone.id, to_delete=True
        ),
        TransactionEdit(fund(holding, 1), "2024-01", "RegularInvestment", "10000", is_new=True),
        TransactionEdit(fund(holding), "2024-02", "Current Value", "10100", is_new=True),
        TransactionEdit(fund(holding, 1), "2024-02", "Current Value", "10201", is_new=True),
    )
    assert result == TransactionResult(
        success=True, processed_activities=3, processed_valuations=2, recalculated_irrs=3
    )
    assert activities(holding) == [
        (0, "Investment", "2024-01-15", "10000.00"),
        (1, "RegularInvestment", "2024-01-01", "10000.00"),
    ]
    assert valuations(holding) == {(0, "2024-02-01"): "10100.00", (1, "2024-02-01"): "10201.00"}
    assert holding.fund_irrs() == {(0, "2024-02-01"): "5.99", (1, "2024-02-01"): "12.00"}
    assert holding.portfolio_irrs() == {"2024-02-01": "9.00"}


def test_edit_of_an_existing_row_is_never_inserted(holding: Holding) -> None:
    """An edit with an original activity updates it, also if it says that it is new, and if it is
    saved twice.
    """
    row = holding.log(0, "Investment", "2024-01-15", 1)
    edit = TransactionEdit(fund(holding), "2024-01", "Withdrawal", "2", True, row.id)
    assert save(holding, edit).success
    assert save(holding, edit).success
    assert activities(holding) == [(0, "Withdrawal", "2024-01-15", "2.00")]


def test_edit_may_move_an_activity(holding: Holding) -> None:
    """If an edit moves an activity to another month and fund, rates are recalculated in both
    places.
    """
    row = holding.log(0, "Investment", "2024-01-15", 10000)
    holding.log(0, "Investment", "2024-01-16", 5000)
    holding.valued(0, ("2024-01-31", 15150), ("2024-03-31", 5000))
    holding.valued(1, ("2024-03-31", 10100))
    assert save(
        holding, TransactionEdit(fund(holding, 1), "2024-03", "Investment", "10000", False, row.id)
    ).success
    assert activities(holding)[0] == (1, "Investment", "2024-03-01", "10000.00")
    # The first fund is recalculated without the moved activity from 2024-01-31 on.
    assert holding.fund_irrs() == {
        (0, "2024-01-31"): "2436.00",
        (0, "2024-03-31"): "0.00",
        (1, "2024-03-31"): "12.00",
    }


def test_deletion_recalculates_from_its_own_date(holding: Holding) -> None:
    """A deletion without other edits recalculates from the date of the deleted activity."""
    holding.log(0, "Investment", "2024-01-10", 10000)
    extra = holding.log(0, "Investment", "2024-01-15", 10000)
    holding.valued(0, ("2024-01-31", 10100))
    edit = TransactionEdit(
        fund(holding), "2024-01", "Investment", original_activity_id=extra.id, to_delete=True
    )
    result = save(holding, edit)
    assert (result.success, result.processed_activities) == (True, 1)
    assert holding.fund_irrs() == {(0, "2024-01-31"): "12.00"}


def test_valuation_is_upserted_and_deleted(holding: Holding) -> None:
    """A valuation is inserted, then updated, then deleted, and the rates of its date are deleted
    with it.
    """
    holding.log(0, "Investment", "2024-01-10", 10000)
    edit = TransactionEdit(fund(holding), "2024-02", "Current Value", "10100", is_new=True)
    assert save(holding, edit).success
    key = holding.session.scalars(select(PortfolioFundValuation.id)).one()
    again = TransactionEdit(fund(holding), "2024-02", "Current Value", "10201")
    assert save(holding, again).processed_valuations == 1
    assert holding.session.scalars(select(PortfolioFundValuation.id)).one() == key
    assert holding.fund_irrs() == {(0, "2024-02-01"): "12.00"}
    gone = TransactionEdit(fund(holding), "2024-02", "Current Value", to_delete=True)
    assert save(holding, gone).success
    assert valuations(holding) == {}
    assert holding.fund_irrs() == {}


def test_added_and_deleted_before_it_was_saved(holding: Holding) -> None:
    """An edit that is both new and deleted does nothing."""
    edit = TransactionEdit(fund(holding), "2024-02", "Investment", "", is_new=True, to_delete=True)
    assert save(holding, edit) == TransactionResult(success=True)
    assert save(holding) == TransactionResult(success=True)


def test_edits_may_be_mappings(holding: Holding) -> None:
    """Edits may be mappings, as JSON gives them; a key that is missing or unknown is an error of
    the edit.
    """
    edit = {
        "fund_id": fund(holding),
        "month": "2024-01",
        "activity_type": "Investment",
        "value": "5",
        "is_new": True,
        "original_activity_id": None,
        "to_delete": False,
    }
    coordinator = TransactionCoordinator(holding.session)
    assert coordinator.save([edit], holding.product.id).success
    assert activities(holding) == [(0, "Investment", "2024-01-01", "5.00")]
    refused = coordinator.save([edit, {"is_new": True}, {**edit, "colour": 1}], holding.product.id)
    assert refused.errors == (
        "edit 1, fund_id: is missing",
        "edit 1, month: is missing",
        "edit 1, activity_type: is missing",
        "edit 1, value: is missing",
        "edit 2, colour: is not an attribute of an edit",
    )


def test_all_errors_are_listed_and_nothing_is_saved(holding: Holding) -> None:
    """The result lists every error of every edit, and no edit is saved."""
    row = holding.log(0, "Investment", "2024-01-15", 1)
    other = make_holding(holding.session, 1)
    foreign = other.log(0, "Investment", "2024-01-15", 1)
    holding.valued(0, ("2024-05-01", 5))
    first = fund(holding)
    before = snapshot(holding.session)
    result = save(
        holding,
        TransactionEdit(first, "2024-01", "Investment", "5", is_new=True),
        TransactionEdit(first, "2024-13", "Investment", "five", is_new=True),
        TransactionEdit(first, "2024-01", "Investment", None, is_new=True),
        TransactionEdit(first, "2024-01", "", "-5", is_new=True),
        TransactionEdit(987654, "2024-01", "Investment", "5", is_new=True),
        TransactionEdit(first, "2024-01", "Investment", "5"),
        TransactionEdit(first, "2024-01", "Investment", "5", False, 987654),
        TransactionEdit(first, "2024-01", "Investment", "5", False, foreign.id),
        TransactionEdit(first, "2024-01", "Investment", "5", False, row.id),
        TransactionEdit(first, "2024-01", "Investment", None, False, row.id, True),
        TransactionEdit(first, "2024-04", "Current Value", to_delete=True),
        TransactionEdit(first, "2024-05", "Current Value", "NaN"),
        TransactionEdit(first, "2024-05", "Current Value", "6"),
        TransactionEdit(first, "2024-05", "current value", "7"),
    )
    product = holding.product.id
    assert result == TransactionResult(
        success=False,
        errors=(
            "edit 1, month: 2024-13 is not a month of the calendar",
            "edit 1, value: expected a number, found 'five'",
            "edit 2, value: is missing",
            "edit 3, activity_type: is missing",
            "edit 3, value: expected 0 or more, because the type gives the sign, found -5",
            "edit 4, fund_id: no fund has the id 987654",
            "edit 5, original_activity_id: is missing: the edit is of an existing activity",
            f"edit 6, original_activity_id: product {product} has no activity 987654",
            f"edit 7, original_activity_id: product {product} has no activity {foreign.id}",
            "edit 9, original_activity_id: edit 8 is of the same row",
            f"edit 10, month: fund {first} has no valuation on 2024-04-01 to delete",
            "edit 11, value: expected a finite number, found 'NaN'",
            "edit 13, month: edit 12 is of the same row",
        ),
    )
    assert snapshot(holding.session) == before


def test_unknown_product(holding: Holding) -> None:
    """A product that does not exist is an error."""
    edit = TransactionEdit(fund(holding), "2024-01", "Investment", "5", is_new=True)
    result = TransactionCoordinator(holding.session).save([edit], 987654)
    assert result.errors == ("product_id: no product has the id 987654",)


def test_error_of_the_database_undoes_all_three_phases(holding: Holding) -> None:
    """If the database refuses the rates, the activities and valuations are undone too, and the
    result gives the error.
    """
    holding.session.execute(
        text("ALTER TABLE portfolio_fund_irr_values ADD CONSTRAINT none CHECK (irr_result < 0)")
    )
    holding.log(0, "Investment", "2024-01-15", 1)
    before = snapshot(holding.session)
    result = save(
        holding,
        TransactionEdit(fund(holding), "2024-01", "Investment", "5", is_new=True),
        TransactionEdit(fund(holding), "2024-02", "Current Value", "50", is_new=True),
    )
    assert not result.success
    [error] = result.errors
    assert 'violates check constraint "none"' in error
    assert "INSERT" not in error
    assert snapshot(holding.session) == before
    # The caller's transaction can be used afterwards.
    holding.session.commit()
    assert snapshot(holding.session) == before


def test_flows_without_a_rate_are_no_error(holding: Holding) -> None:
    """Edits that leave a fund without a rate are saved, and the result names the fund and date."""
    result = save(
        holding,
        TransactionEdit(fund(holding), "2024-01", "Withdrawal", "5", is_new=True),
        TransactionEdit(fund(holding), "2024-02", "Current Value", "50", is_new=True),
    )
    assert result.success
    assert [(failure.fund_id, failure.date) for failure in result.irr_failures] == [
        (fund(holding), date(2024, 2, 1))
    ]
    assert activities(holding) == [(0, "Withdrawal", "2024-01-01", "5.00")]


def test_one_recalculation_for_all_edits(portfolio_engine: Engine, holding: Holding) -> None:
    """Many edits take the same statements as few: one recalculation per portfolio."""
    # Few rows go by COPY too: an INSERT of several rows would be one statement per row.
    register(holding.session, reserve="always", copy_min_rows=1)

    def sent(count: int) -> list[str]:
        months = [f"{2000 + n // 12}-{n % 12 + 1:02}" for n in range(count)]
        edits = [
            TransactionEdit(fund(holding), month, kind, "100", is_new=True)
            for month in months
            for kind in ("Investment", "Current Value")
        ]
        with record_statements(portfolio_engine) as recorded:
            assert save(holding, *edits).success
        for row in holding.session.scalars(select(PortfolioFundValuation)):
            holding.session.delete(row)
        for table in ("portfolio_fund_irr_values", "holding_activity_log"):
            holding.session.execute(text(f"DELETE FROM {table}"))
        holding.session.flush()
        return [statement.sql.split(None, 1)[0] for statement in recorded]

    sent(10)
    assert sent(10) == sent(60)


def snapshot(session: Session) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables, without the times at which they were written."""
    return {
        table.name: [
            {name: value for name, value in row._mapping.items() if not name.endswith("ed_at")}
            for row in session.execute(select(table).order_by(table.c.id))
        ]
        for table in Base.metadata.sorted_tables
    }


def random_edits(random: Random, holding: Holding, originals: list[int]) -> list[TransactionEdit]:
    """Draw edits of all kinds; each original and each valuation is used once."""
    types = ["Investment", "Withdrawal", "RegularInvestment", "FundSwitchOut"]
    cells = [(position, month) for position in range(3) for month in range(1, 13)]

    def activity(original: int | None) -> TransactionEdit:
        return TransactionEdit(
            fund(holding, random.randrange(3)),
            f"2024-{random.randint(1, 12):02}",
            random.choice(types),
            str(random.randint(1, 900)),
            is_new=original is None,
            original_activity_id=original,
            to_delete=original is not None and random.random() < 0.4,
        )

    edits = [
        TransactionEdit(
            fund(holding, position),
            f"2024-{month:02}",
            "Current Value",
            str(random.randint(0, 9000)),
            is_new=random.random() < 0.5,
        )
        for position, month in random.sample(cells, 20)
    ]
    edits += [activity(original) for original in (*random.sample(originals, 15), *[None] * 15)]
    random.shuffle(edits)
    return edits


@pytest.mark.parametrize("seed", range(4))
def test_off_and_bulk_leave_identical_databases(
    two_portfolio_engines: tuple[Engine, Engine], seed: int
) -> None:
    """The same edits leave the same rows and ids with ``mode="off"`` and with ``mode="bulk"``."""
    print(f"seed {seed}")
    databases, writers = [], []
    for engine, mode in zip(two_portfolio_engines, ("off", "bulk"), strict=True):
        random = Random(seed)
        reseed_random(seed)
        with Session(engine) as session:
            holding = make_holding(session, 3)
            for _ in range(30):
                day = f"2024-0{random.randint(1, 9)}-11"
                holding.log(random.randrange(3), "Investment", day, 50)
            holding.valued(0, ("2024-05-01", 400), ("2024-06-15", 500))
            session.commit()
            registration = register(session, mode=mode, reserve="always", copy_min_rows=8)  # type: ignore[arg-type]  # one of the two above
            reports: list[FlushReport] = []
            registration.on_flush(reports.append)
            coordinator = TransactionCoordinator(session, registration=registration)
            for _ in range(2):
                originals = list(session.scalars(select(HoldingActivityLog.id).order_by("id")))
                edits = random_edits(random, holding, originals)
                result = coordinator.save(edits, holding.product.id)
                assert result.success, result.errors
            session.commit()
            databases.append(snapshot(session))
            writers.append({entry.writer for report in reports for entry in report.entries})
    assert databases[0] == databases[1]
    assert databases[0]["portfolio_fund_irr_values"]
    assert "copy" in writers[1]
    assert "copy" not in writers[0]
