"""bulk_update with listeners, rules, triggers and views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.changes import COUNTED, Base, Bird, Counted, change
from fixtures.listeners import comment, target_of
from fixtures.sides import DRIVERS, Side, both
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_update

pytestmark = pytest.mark.usefixtures("way")

EACH = pytest.mark.parametrize("driver", DRIVERS)


def see_parameters(engine: Any) -> None:
    @event.listens_for(engine, "before_execute", retval=True)
    def masks(_c: Any, clause: Any, many: Any, one: Any, _options: Any) -> Any:
        if clause.is_update:
            many = [{k: "*" if v == "hush" else v for k, v in row.items()} for row in many]
        return clause, many, one


@EACH
@pytest.mark.parametrize("listener", [see_parameters, comment])
def test_whoever_listens_is_heard(
    twin_urls: tuple[str, str], driver: str, listener: Callable[[Any], None]
) -> None:
    """If a listener may change an UPDATE, each row has an UPDATE of its own with its values as
    parameters.
    """

    def trial(side: Side) -> Any:
        side.execute(
            "INSERT INTO animal SELECT n, 'bird', 'a' || n, 0 FROM generate_series(1, 9) n",
            "INSERT INTO bird SELECT n, 2, NULL FROM generate_series(1, 9) n",
        )
        if side.registered:
            listener(target_of(side))
        rows = [{"id": n, "name": f"n{n}", "song": "hush"} for n in (3, 1, 99)]

        def work(session: Session) -> Any:
            told = change(side, session, Bird, rows, ["id"])
            session.commit()
            return told

        told = side.run(work)
        word = "*" if listener is see_parameters and side.registered else "hush"
        assert side.rows("SELECT DISTINCT song FROM bird WHERE song IS NOT NULL") == [(word,)]
        return told, side.rows("SELECT a::text FROM animal a ORDER BY id")

    both(twin_urls, Base, trial, driver=driver)


OTHERS = {
    "rule": [
        "CREATE TABLE noted (n int)",
        "CREATE RULE note AS ON UPDATE TO counted DO ALSO INSERT INTO noted VALUES (NEW.id)",
    ],
    "statement trigger": [
        "CREATE TABLE noted (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO noted VALUES (1); RETURN NULL; END$$",
        "CREATE TRIGGER note AFTER UPDATE ON counted FOR EACH STATEMENT EXECUTE FUNCTION note()",
    ],
    "row trigger": [
        "CREATE TABLE noted (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN NEW.name := NEW.name || '!'; RETURN NEW; END$$",
        "CREATE TRIGGER note BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION note()",
    ],
    "view": [
        "CREATE TABLE noted (n int)",
        "ALTER TABLE counted RENAME TO counted_rows",
        "CREATE VIEW counted AS SELECT * FROM counted_rows",
    ],
}


@pytest.mark.parametrize("other", OTHERS)
def test_tables_of_the_less_usual_kinds(twin_urls: tuple[str, str], other: str) -> None:
    """Rules, triggers and views have the same effect as when objects are updated."""

    def trial(side: Side) -> Any:
        side.execute(COUNTED)
        side.execute(*OTHERS[other])

        def work(session: Session) -> Any:
            rows = [{"id": n, "name": f"n{n}"} for n in (3, 1, 2)]
            told = change(side, session, Counted, rows, ["id"])
            session.commit()
            return told

        told = side.run(work)
        noted = side.rows("SELECT count(*) > 0, count(DISTINCT n) FROM noted")
        return told, noted, side.rows("SELECT id, name, version FROM counted ORDER BY id")

    both(twin_urls, Base, trial)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "AUTOCOMMIT"])
def test_in_every_transaction(engine: Engine, level: str) -> None:
    """bulk_update works in each kind of transaction."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(COUNTED))
    other = engine.execution_options(isolation_level=level)
    with Session(other) as there:
        there.execute(text("SELECT 1"))
        done = bulk_update(there, Counted, [{"id": n, "name": "z"} for n in (1, 2, 44)])
        assert (done.updated, done.missing) == (2, (2,))
        there.commit()
    with Session(engine) as session:
        assert session.scalar(select(func.count()).where(Counted.name == "z")) == 2
