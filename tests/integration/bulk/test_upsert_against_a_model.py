"""bulk_upsert compared with a dictionary that does the same, with random batches."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import Engine, Identity, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_upsert
from sqla_seqreserve.errors import InvalidRowsError


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    shop: Mapped[int]
    item: Mapped[str | None]
    amount: Mapped[int]
    note: Mapped[str | None]
    __table_args__ = (UniqueConstraint("shop", "item"),)


@pytest.mark.parametrize("seed", range(12))
def test_random_batches(engine: Engine, seed: int) -> None:
    """Rows, counts, ids and errors of random upserts are those of a dictionary."""
    print("seed", seed)
    chance = random.Random(seed)
    Base.metadata.create_all(engine)
    model: dict[int, tuple[int, str | None, int, str | None]] = {}
    with Session(engine) as session:
        for _ in range(12):
            rows = [
                {
                    "shop": chance.randrange(4),
                    "item": chance.choice([None, "a", "b", "c", "d", "e"]),
                    "amount": chance.randrange(100),
                    "note": chance.choice([None, "x", "y"]),
                }
                for _ in range(chance.randrange(9))
            ]
            update: Any = chance.choice([None, (), ["amount"], ["note", "amount"]])
            where: Any = chance.choice([None, Stock.amount < pg_insert(Stock).excluded.amount])
            chunk_rows = chance.choice([None, 1, 3])
            keyed = [(row["shop"], row["item"]) for row in rows if row["item"] is not None]

            def run() -> Any:
                return bulk_upsert(
                    session,
                    Stock,
                    rows,  # noqa: B023  # called before the next turn
                    conflict=["shop", "item"],
                    update=update,  # noqa: B023
                    where=where,  # noqa: B023
                    returning="ids",
                    chunk_rows=chunk_rows,  # noqa: B023
                )

            if len(set(keyed)) < len(keyed):
                with pytest.raises(InvalidRowsError, match="is the same row as row"):
                    run()
                continue
            before = dict(model)
            done = run()
            counts = [0, 0, 0]
            assert len(set(done.ids)) == len(rows)
            for row, key in zip(rows, done.ids, strict=True):
                there = next(
                    (
                        known
                        for known, value in before.items()
                        if row["item"] is not None and value[:2] == (row["shop"], row["item"])
                    ),
                    None,
                )
                if there is None:
                    assert key not in before
                    model[key] = (row["shop"], row["item"], row["amount"], row["note"])
                    counts[0] += 1
                    continue
                assert key == there
                shop, item, amount, note = before[key]
                if update == () or (where is not None and not amount < row["amount"]):
                    counts[2] += 1
                    continue
                counts[1] += 1
                note = row["note"] if update is None or "note" in update else note
                model[key] = (shop, item, row["amount"], note)
            assert [done.inserted, done.updated, done.unchanged] == counts
            stored = session.execute(
                select(Stock.id, Stock.shop, Stock.item, Stock.amount, Stock.note)
            ).all()
            assert {row[0]: tuple(row[1:]) for row in stored} == model
