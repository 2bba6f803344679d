"""If the reason why a class got no reserved keys or did not go by COPY is removed by another
session, a save notices it, even one that asks the database nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.least_role import role as role
from fixtures.sides import Side, Way, prepared
from sqlalchemy import Identity, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve._ids import catalogue
from sqla_seqreserve.testing import record_statements

AFTER = 100


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_DOUBTED_AFTER", AFTER)


def saves(side: Side, times: int, *, become: str | None = None) -> list[tuple[str, list[str]]]:
    """Save in open transactions; return the writer and the statements of each save."""
    found = []
    for _ in range(times):

        def save(session: Session) -> Any:
            session.execute(text("SELECT 1"))
            if become is not None:
                session.execute(text(f"SET LOCAL ROLE {become}"))
            with record_statements(side.engine) as statements:
                side.write(session, Item, [{"name": "n"} for _ in range(side.way.rows)])
            session.commit()
            return [str(each).partition(" ")[0] for each in statements]

        written = side.run(save)
        found.append((side.reports[-1].entries[0].writer, written))
    return found


WAY = Way("copy", {"copy_min_rows": 1}, rows=40)
DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
TRIGGER = (
    "CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER same BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION same()",
)
RULE = ("CREATE RULE also AS ON INSERT TO item DO ALSO NOTIFY told",)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("ddl", "undone"),
    [(TRIGGER, "DROP TRIGGER same ON item"), (RULE, "DROP RULE also ON item")],
    ids=["trigger", "rule"],
)
def test_ddl_that_takes_the_reason_away(
    twin_urls: tuple[str, str], driver: str, ddl: tuple[str, ...], undone: str
) -> None:
    """After the trigger or rule is dropped, the engine reads the facts again after 100 rows, and
    then rows go by COPY.
    """
    with prepared(twin_urls[1], WAY, Base, ddl, registered=True, driver=driver) as side:
        saves(side, 1)
        assert saves(side, 1) == [("orm", ["INSERT"])]
        side.execute(undone)
        found = [writer for writer, _ in saves(side, 3)]
    assert found == ["copy", "copy", "copy"], found


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reason_that_stays(twin_urls: tuple[str, str], driver: str) -> None:
    """If the trigger stays, reading the facts again costs one statement per 100 rows, and rows are
    written as before.
    """
    with prepared(twin_urls[1], WAY, Base, TRIGGER, registered=True, driver=driver) as side:
        saves(side, 1)
        found = saves(side, 6)
    assert {writer for writer, _ in found} == {"orm"}
    asked = [len(statements) - 1 for _, statements in found]
    assert sum(asked) == 2, found


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_role_that_was_granted_the_rest(
    twin_urls: tuple[str, str], role: str, driver: str
) -> None:
    """A privilege that is granted later is noticed, though the role could not lock the table to
    compare the facts.
    """
    ddl = [
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT INSERT (id, name), SELECT ON item TO {role}",
    ]
    with prepared(twin_urls[1], WAY, Base, ddl, registered=True, driver=driver) as side:
        saves(side, 1, become=role)
        assert saves(side, 1, become=role) == [("orm", ["INSERT"])]
        side.execute(
            f"GRANT INSERT ON item TO {role}", f"GRANT USAGE ON SEQUENCE item_id_seq TO {role}"
        )
        found = [writer for writer, _ in saves(side, 3, become=role)]
    assert found[-1] == "copy", found


def test_one_save_of_very_many_rows_asks_once(twin_urls: tuple[str, str], role: str) -> None:
    """A table that the role cannot lock is read once more per save, however many rows the
    save has.
    """
    ddl = [
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT INSERT (id, name), SELECT ON item TO {role}",
    ]
    way = replace(WAY, rows=AFTER + 1)
    with prepared(twin_urls[1], way, Base, ddl, registered=True, driver="psycopg") as side:
        saves(side, 1, become=role)
        [(writer, statements)] = saves(side, 1, become=role)
    assert writer == "orm"
    assert len(statements) == 2, statements
