"""bulk_insert returns the keys that the rows have, whatever the kind of key, on every driver."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest
from fixtures.bulk_keys import (
    DRIVERS,
    KINDS,
    ByAlways,
    Composite,
    Discarding,
    Named,
    Natural,
    OnDriver,
    Renumbered,
    Respelled,
    TwoAlways,
)
from sqlalchemy import Connection, Engine, Uuid, delete, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert
from sqla_seqreserve.errors import InvalidRowsError

ROWS = 40


def rows_of(model: type[Any], mixed: bool) -> list[dict[str, Any]]:
    rows = [{"tag": f"t{number}", **KINDS[model](number)} for number in range(ROWS)]
    for row in rows[5::10] if mixed else ():
        row["tag"] = func.lower(str(row["tag"]).upper())
    for row in rows[2::9]:
        row["stars"] = None
    return rows


def stored_tags(session: Session, model: type[Any]) -> dict[Any, str]:
    """The stored rows, by their key."""
    key = inspect(model).primary_key
    columns = [inspect(model).get_property_by_column(column).class_attribute for column in key]
    rows = session.execute(select(*columns, model.tag)).all()
    return {row[0] if len(key) == 1 else tuple(row[:-1]): row[-1] for row in rows}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "expressions"])
@pytest.mark.parametrize("returning", ["ids", "objects", None])
def test_every_kind(on_driver: OnDriver[None], driver: str, returning: Any, mixed: bool) -> None:
    """Each row is stored once, and the returned keys are those of their rows."""

    def scenario(session: Session) -> None:
        for model in KINDS:
            rows = rows_of(model, mixed)
            found: Any = bulk_insert(session, model, rows, returning=returning)
            stored = stored_tags(session, model)
            told = f"{model.__name__} on {driver}"
            assert sorted(stored.values()) == sorted(f"t{n}" for n in range(ROWS)), told
            if returning is None:
                assert found == ROWS, told
            elif returning == "ids":
                assert [stored[key] for key in found] == [f"t{n}" for n in range(ROWS)], told
            else:
                assert [type(item) for item in found] == [model] * ROWS, told
                identities = [inspect(item).identity for item in found]
                keys = [key[0] if len(key) == 1 else tuple(key) for key in identities]
                assert [stored[key] for key in keys] == [f"t{n}" for n in range(ROWS)], told
                assert [item.tag for item in found] == [f"t{n}" for n in range(ROWS)], told
                assert {(item.state, item.stars) for item in found} == {("new", 3)}, told
                session.expire_all()
                again = [session.get(model, key) for key in identities]
                assert again == found, told
            session.execute(text("SAVEPOINT s"))
            session.execute(text("RELEASE SAVEPOINT s"))
            session.expunge_all()

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
def test_random_rows_keep_their_own_keys(on_driver: OnDriver[None], driver: str) -> None:
    """Returned ids are aligned with the rows, whichever rows give which of their keys, in any order
    and chunks.
    """
    seed = random.randrange(1_000_000)
    print("seed", seed)
    chance = random.Random(seed)

    def scenario(session: Session) -> None:
        for turn in range(60):
            model = chance.choice(list(KINDS))
            rows = rows_of(model, mixed=chance.random() < 0.3)
            for number, row in enumerate(rows):
                for attribute, value in _own_keys(model, number).items():
                    if chance.random() < 0.2:
                        row[attribute] = chance.choice([value, value, None])
            chance.shuffle(rows)
            tags = [str(row["tag"]) if isinstance(row["tag"], str) else None for row in rows]
            chunk_rows = chance.choice([None, None, 7, 40])
            found = bulk_insert(session, model, rows, chunk_rows=chunk_rows)
            stored = stored_tags(session, model)
            told = f"{model.__name__} in turn {turn} of seed {seed} on {driver}"
            assert len(stored) == len(set(found)) == ROWS, told
            for key, tag, row in zip(found, tags, rows, strict=True):
                assert tag in (None, stored[key]), told
                parts = dict(zip(_key_attributes(model), _as_tuple(key), strict=True))
                given = {name: row[name] for name in parts if row.get(name) is not None}
                if model not in {Renumbered, Respelled, Named}:
                    assert given.items() <= parts.items(), told
            session.execute(delete(inspect(model).local_table))
            for table in inspect(model).tables:
                session.execute(delete(table))

    on_driver(driver, scenario)


def _key_attributes(model: type[Any]) -> list[str]:
    mapper = inspect(model)
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


def _as_tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _own_keys(model: type[Any], number: int) -> dict[str, Any]:
    """Values for the columns of the key that the database or a default would fill."""
    mapper = inspect(model)
    own: dict[str, Any] = {}
    for column in mapper.primary_key:
        attribute = mapper.get_property_by_column(column).key
        if attribute in KINDS[model](number) or model in {ByAlways, TwoAlways}:
            continue
        kind = column.type.python_type
        value: Any = 1_000_000 + number if kind is int else f"own{number}"
        if isinstance(column.type, Uuid):
            value = uuid.UUID(int=1_000_000 + number)
            value = value if column.type.as_uuid else str(value)
        own[attribute] = value
    return own


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_discarded_row_is_never_told_as_written(on_driver: OnDriver[None], driver: str) -> None:
    """If a trigger discards rows, the count is that of the stored ones, and returning ids is
    refused.
    """
    rows = [{"tag": f"t{number}"} for number in range(ROWS)]

    def count(session: Session) -> None:
        assert bulk_insert(session, Discarding, rows, returning=None) == ROWS - 4
        assert session.scalar(select(func.count()).select_from(Discarding)) == ROWS - 4

    def refused(session: Session) -> None:
        with pytest.raises(SQLAlchemyError, match="Row 7: INSERT for .*discarding"):
            bulk_insert(session, Discarding, rows)

    on_driver(driver, count)
    on_driver(driver, refused)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_key_that_nothing_fills_is_refused(on_driver: OnDriver[None], driver: str) -> None:
    """If nothing can fill the key of a class, rows without one are all named, and nothing is
    written.
    """

    def scenario(session: Session) -> None:
        with pytest.raises(InvalidRowsError) as refused:
            bulk_insert(session, Natural, [{"tag": "a", "code": "a"}, {"tag": "b"}])
        assert [(p.index, p.attribute) for p in refused.value.problems] == [(1, "code")]
        with pytest.raises(InvalidRowsError) as refused:
            bulk_insert(session, Composite, [{"tag": "a", "region": "eu"}, {"tag": "b"}])
        assert [(p.index, p.attribute) for p in refused.value.problems] == [
            (0, "number"),
            (1, "region"),
            (1, "number"),
        ]
        for model in (Natural, Composite):
            assert session.scalar(select(func.count()).select_from(model)) == 0

    on_driver(driver, scenario)


def test_nothing_is_half_written_on_an_error_before_the_server(
    engine: Engine, on_driver: Any
) -> None:
    """If a type refuses a value, none of the rows is stored, even those that COPY had written."""
    rows: list[dict[str, Any]] = [{"tag": f"t{number}"} for number in range(ROWS)]
    rows[20]["stars"] = "no number"
    with Session(engine) as session:
        with pytest.raises(DBAPIError):
            bulk_insert(session, ByAlways, rows)
        session.rollback()

    def hide(connection: Connection) -> int:
        return connection.scalar(select(func.count()).select_from(ByAlways)) or 0

    with engine.connect() as connection:
        assert hide(connection) == 0
