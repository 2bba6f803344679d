"""bulk_sync by an index on expressions, and by a partial one."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, Identity, select, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import SyncResult, bulk_insert, bulk_sync
from sqla_seqreserve.errors import InvalidRowsError

pytestmark = pytest.mark.usefixtures("way")

INDEXES = {
    "expression": "(lower(code))",
    "partial": "(code) WHERE NOT is_gone",
    "both": "(lower(code), shelf) WHERE NOT is_gone",
    "nulls alike": "(lower(code)) NULLS NOT DISTINCT WHERE NOT is_gone",
}


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[str | None]
    shelf: Mapped[int]
    value: Mapped[int]
    is_gone: Mapped[bool] = mapped_column(default=False)


def item(code: str | None, value: int, **more: Any) -> dict[str, Any]:
    return {"code": code, "shelf": 1, "value": value, "is_gone": False, **more}


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def sync(session: Session, index: str, rows: Any, **options: Any) -> SyncResult:
    return bulk_sync(session, Item, rows, key="item_index", **{"scope": ~Item.is_gone, **options})


def stored(session: Session) -> list[tuple[Any, ...]]:
    found = select(Item.id, Item.code, Item.value, Item.is_gone).order_by(Item.id)
    return [tuple(row) for row in session.execute(found)]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("certain", [True, False])
def test_rows_are_found_by_the_index(session: Session, index: str, certain: bool) -> None:
    """Rows are matched by the elements of the index, and rows of the scope that are not given are
    deleted; a dry run counts the same.
    """
    session.execute(text(f"CREATE UNIQUE INDEX item_index ON item {INDEXES[index]}"))
    old = [item("a", 1), item("b", 1), item("c", 1), item("d", 1)]
    if index != "expression":
        old.append(item("a", 9, is_gone=True))
    bulk_insert(session, Item, old)
    case = "a" if index == "partial" else "A"
    rows = [item("b", 1), item(case, 2), item("new", 3)]
    scope = ~Item.is_gone & (true() if certain else Item.id.in_(select(Item.id)))
    would = sync(session, index, rows, scope=scope, dry_run=True)
    assert sync(session, index, rows, scope=scope) == would == SyncResult(1, 1, 1, 2)
    kept = [row[:3] for row in stored(session) if not row[3]]
    assert kept[:2] == [(1, case, 2), (2, "b", 1)]
    assert [row[1:] for row in kept[2:]] == [("new", 3)]
    assert [row[0] for row in stored(session) if row[3]] == ([] if index == "expression" else [5])
    assert sync(session, index, [], scope=scope).deleted == 3


@pytest.mark.parametrize("index", ["expression", "partial"])
def test_rows_that_the_index_cannot_find_are_refused(session: Session, index: str) -> None:
    """A row that the index does not hold, or whose element is NULL, is refused: no row matches it,
    so each synchronization would insert it again.
    """
    session.execute(text(f"CREATE UNIQUE INDEX item_index ON item {INDEXES[index]}"))
    bad = item(None, 1) if index == "expression" else item("b", 1, is_gone=True)
    with pytest.raises(InvalidRowsError, match="1 of 2 rows") as refused:
        sync(session, index, [item("a", 1), bad], scope=true())
    [problem] = refused.value.problems
    assert problem.index == 1
    assert "item_index" in problem.problem
    assert stored(session) == []
