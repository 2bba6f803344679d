"""One statement for many rows has the same meaning as one statement per row; where it might not,
SQLAlchemy writes. Each test compares plain SQLAlchemy with a registered session.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fixtures.places import BODIES, EVERY, PLACE, Act, Place, Priced, compared, filled
from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session


def moved(by: Callable[[int], int]) -> Act:
    def act(session: Session) -> None:
        for place in filled(session):
            assert place.position is not None
            place.position = by(place.position)
        session.commit()

    return act


UNIQUE = {
    "constraint": "ALTER TABLE place ADD UNIQUE (position)",
    "deferrable": "ALTER TABLE place ADD UNIQUE (position) DEFERRABLE",
    "deferred": "ALTER TABLE place ADD UNIQUE (position) DEFERRABLE INITIALLY DEFERRED",
    "expression": "CREATE UNIQUE INDEX ON place ((position * 2))",
    "predicate": "CREATE UNIQUE INDEX ON place ((1)) WHERE position = 2",
    "exclusion": "ALTER TABLE place ADD EXCLUDE USING btree (position WITH =)",
    "deferrable exclusion": "ALTER TABLE place ADD EXCLUDE (position WITH =) DEFERRABLE",
}


@EVERY
@pytest.mark.parametrize("unique", UNIQUE.values(), ids=UNIQUE)
def test_values_that_pass_each_other(twin_urls: tuple[str, str], driver: str, unique: str) -> None:
    """Unique values that are swapped or shifted are refused, or not, as with one UPDATE per row."""
    compared(twin_urls, driver, moved(lambda position: 7 - position), unique)
    compared(twin_urls, driver, moved(lambda position: position + 1), unique)
    compared(twin_urls, driver, moved(lambda position: position - 1), unique)


@EVERY
def test_a_unique_index_made_meanwhile(twin_urls: tuple[str, str], driver: str) -> None:
    """A unique index that is made after the table was looked at is noticed."""

    def act(session: Session) -> None:
        places = filled(session)
        for place in places:
            place.position += 10  # type: ignore[operator]  # it has one
        session.commit()
        session.execute(text(UNIQUE["deferrable"]))
        session.commit()
        for place in places:
            place.position = 27 - place.position  # type: ignore[operator]  # as above
        session.commit()

    compared(twin_urls, driver, act, "CREATE UNIQUE INDEX ON place (name)")


@EVERY
@pytest.mark.parametrize("when", BODIES)
def test_triggers_that_look_at_other_rows(
    twin_urls: tuple[str, str], driver: str, when: str
) -> None:
    """A row trigger sees other rows as it would between single UPDATEs."""

    def act(session: Session) -> None:
        places = filled(session)
        for place in places:
            place.position, place.number = place.id * 10, place.id * 100
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        f"CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {BODIES[when]} END$$",
        f"CREATE TRIGGER look {when} UPDATE ON place FOR EACH ROW EXECUTE FUNCTION look()",
    )


@EVERY
def test_a_trigger_of_deletes(twin_urls: tuple[str, str], driver: str) -> None:
    """A row trigger on DELETE sees the remaining rows as between single DELETEs."""

    def act(session: Session) -> None:
        for place in filled(session):
            session.delete(place)
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE TABLE seen (id int, others bigint)",
        """CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO seen SELECT OLD.id, count(*) FROM place; RETURN NULL; END$$""",
        "CREATE TRIGGER look AFTER DELETE ON place FOR EACH ROW EXECUTE FUNCTION look()",
        tables=("place", "seen"),
    )


@EVERY
def test_a_trigger_of_inserts(twin_urls: tuple[str, str], driver: str) -> None:
    """A row trigger on INSERT sees the earlier rows as between single INSERTs."""

    def act(session: Session) -> None:
        session.execute(insert(Place), [{"id": i, "position": i} for i in range(1, 7)])
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE TABLE seen (id int, others bigint)",
        """CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO seen SELECT NEW.id, count(*) FROM place; RETURN NULL; END$$""",
        "CREATE TRIGGER look AFTER INSERT ON place FOR EACH ROW EXECUTE FUNCTION look()",
        tables=("place", "seen"),
    )


REFERENCES = {
    action: f"ALTER TABLE place ADD FOREIGN KEY (parent_id) REFERENCES place {action}"
    for action in ("", "ON DELETE RESTRICT", "ON DELETE CASCADE", "ON DELETE SET NULL")
}


@EVERY
@pytest.mark.parametrize("down", [True, False], ids=["parents first", "children first"])
@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_rows_that_refer_to_each_other(
    twin_urls: tuple[str, str], driver: str, reference: str, down: bool
) -> None:
    """Rows of one table that refer to each other are inserted and deleted as one by one."""

    def act(session: Session) -> Any:
        step = -1 if down else 1
        rows = [
            {"id": i, "parent_id": i + step if 1 <= i + step <= 6 else None} for i in range(1, 7)
        ]
        session.execute(insert(Place), rows[::1] if down else rows[::-1])
        session.commit()
        for place in session.scalars(select(Place).order_by(Place.id)).all():
            session.delete(place)
        session.commit()

    def wrong(session: Session) -> Any:
        session.execute(insert(Place), [{"id": 1, "parent_id": 2}, {"id": 2, "parent_id": None}])
        session.commit()

    compared(twin_urls, driver, act, reference)
    compared(twin_urls, driver, wrong, reference)


MEANT: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "one row after the other": (
        update(PLACE).where(PLACE.c.position == bindparam("a")).values(position=bindparam("b")),
        [{"a": i, "b": i + 1} for i in range(1, 6)],
    ),
    "overlapping": (
        update(PLACE).where(PLACE.c.position >= bindparam("a")).values(number=bindparam("b")),
        [{"a": i, "b": i * 100} for i in range(1, 6)],
    ),
    "either": (
        update(PLACE)
        .where(or_(PLACE.c.position == bindparam("a"), PLACE.c.id == bindparam("c")))
        .values(number=bindparam("b")),
        [{"a": i, "b": i * 100, "c": i + 1} for i in range(1, 6)],
    ),
    "a pattern": (
        update(PLACE).where(PLACE.c.name.like(bindparam("a"))).values(number=bindparam("b")),
        [{"a": f"%{i}" if i % 2 else "n%", "b": i * 100} for i in range(1, 6)],
    ),
    "a subquery": (
        update(PLACE)
        .where(PLACE.c.id == bindparam("a"))
        .values(number=select(func.max(PLACE.c.number) + 1).scalar_subquery()),
        [{"a": i} for i in range(1, 6)],
    ),
    "a sequence": (
        update(PLACE)
        .where(PLACE.c.id == bindparam("a"))
        .values(number=func.nextval(literal_column("'counter'"))),
        [{"a": i} for i in (5, 2, 4, 1, 3)],
    ),
    "a bare column": (
        update(PLACE)
        .where(PLACE.c.id == bindparam("a"))
        .values(number=literal_column("number + c0"), c0=literal_column("c0 + 1")),
        [{"a": i} for i in (5, 2, 4, 1, 3)],
    ),
    "NULL": (
        update(PLACE).where(PLACE.c.id == bindparam("a")).values(number=bindparam("b")),
        [{"a": i if i % 2 else None, "b": i} for i in range(1, 6)],
    ),
    "a comparison in SET": (
        update(PLACE)
        .where(PLACE.c.id == bindparam("a"))
        .values(name=text("CASE WHEN name = 'WHERE' THEN '$1 %(a)s' ELSE '%' END")),
        [{"a": i} for i in (5, 2, 4, 1, 3)],
    ),
    "dollars": (
        update(PLACE)
        .where(PLACE.c.id == bindparam("a"))
        .values(name=literal_column("$x$ it's $1 ' $x$"), number=bindparam("b")),
        [{"a": i, "b": 5} for i in (5, 2, 4, 1, 3)],
    ),
    "a comment": (
        update(PLACE)
        .prefix_with("/* WHERE it's */")
        .where(PLACE.c.id == bindparam("a"))
        .values(number=bindparam("b")),
        [{"a": i, "b": 5} for i in (5, 2, 4, 1, 3)],
    ),
    "deleted by overlapping": (
        delete(PLACE).where(PLACE.c.position >= bindparam("a")),
        [{"a": i} for i in range(6, 3, -1)],
    ),
    "deleted by a subquery": (
        delete(PLACE).where(
            PLACE.c.id == bindparam("a"),
            PLACE.c.id == select(func.max(PLACE.c.id)).scalar_subquery(),
        ),
        [{"a": i} for i in range(6, 3, -1)],
    ),
}


@EVERY
@pytest.mark.parametrize("meant", MEANT)
def test_statements_that_see_each_other(
    twin_urls: tuple[str, str], driver: str, meant: str
) -> None:
    """A statement that queries what its earlier rows have written sees their changes."""
    statement, rows = MEANT[meant]

    def act(session: Session) -> Any:
        filled(session)
        found: Any = session.execute(statement, rows)
        session.commit()
        return found.rowcount if found.supports_sane_multi_rowcount() else None

    compared(twin_urls, driver, act, "CREATE SEQUENCE counter")


@EVERY
def test_keys_that_a_cast_makes_equal(twin_urls: tuple[str, str], driver: str) -> None:
    """If a cast rounds two keys to one, both are for the same row, and the last of them decides its
    values.
    """

    def act(session: Session) -> None:
        session.execute(insert(Priced), [{"price": Decimal(1), "value": 0}])
        session.execute(
            update(Priced.__table__)
            .where(Priced.__table__.c.price == bindparam("p"))
            .values(value=bindparam("v")),
            [{"p": Decimal("1.001"), "v": 1}, {"p": Decimal("1.002"), "v": 2}],
        )
        session.commit()

    compared(twin_urls, driver, act, tables=("priced",))
