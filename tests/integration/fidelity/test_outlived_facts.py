"""DDL that makes known facts wrong before a save, while its transaction is open or during the save:
the rows are those that INSERT would write.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.least_role import EVERYTHING, ROLE
from fixtures.least_role import role as role
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import BigInteger, DateTime, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import assign_ids, bulk_insert, check_sequences, repair_sequences, reserve_ids
from sqla_seqreserve.errors import SeqReserveError

NOON = dt.datetime(2024, 7, 1, 12)  # noqa: DTZ001  # naive on purpose
MANY, FEW, COPY, MAPPINGS = WAYS[2], WAYS[1], WAYS[3], WAYS[6]

# The calls that the default of a column makes while a row is prepared, between reservation and
# writing.
during: list[Callable[[], object]] = []


LATE = {
    *("timestamp to timestamptz", "a table made anew", "a column dropped"),
    "row security",
}


def run_what_is_to_run() -> str:
    while during:
        during.pop()()
    return "x"


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int | None] = mapped_column(BigInteger)
    moment: Mapped[dt.datetime | None] = mapped_column(DateTime)
    word: Mapped[str | None] = mapped_column(default=run_what_is_to_run)


ALTERATIONS = {
    "bigint to float8": ["ALTER TABLE reading ALTER number TYPE double precision"],
    "bigint to numeric": ["ALTER TABLE reading ALTER number TYPE numeric"],
    "bigint to text": ["ALTER TABLE reading ALTER number TYPE text"],
    "timestamp to timestamptz": ["ALTER TABLE reading ALTER moment TYPE timestamptz"],
    "a rule": [
        "CREATE RULE twice AS ON INSERT TO reading DO ALSO"
        " INSERT INTO witness VALUES (NEW.number, NEW.moment)"
    ],
    "a trigger": [
        "CREATE TRIGGER t BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION renumber()"
    ],
    "row security": [
        "ALTER TABLE reading ENABLE ROW LEVEL SECURITY",
    ],
    "a column dropped": ["ALTER TABLE reading DROP number"],
    "a column made anew": [
        "ALTER TABLE reading DROP number",
        "ALTER TABLE reading ADD number double precision",
    ],
    "columns that changed names": [
        "ALTER TABLE reading RENAME number TO spare",
        "ALTER TABLE reading ADD number real",
    ],
    "a table made anew": [
        "DROP TABLE reading",
        "CREATE TABLE reading (word text, moment timestamptz, number float8, id bigserial)",
    ],
    "a key that counts from elsewhere": ["ALTER TABLE reading ALTER id SET DEFAULT nextval('far')"],
    "always": [
        "ALTER TABLE reading ALTER id DROP DEFAULT",
        "ALTER TABLE reading ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 5000)",
    ],
    "a narrower key": ["ALTER TABLE reading ALTER id TYPE smallint"],
}
DDL = (
    "CREATE TABLE witness (number bigint, moment timestamptz)",
    "CREATE SEQUENCE far START 70000",
    """CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$""",
)


def whose(alteration: str) -> dict[str, Any]:
    """The owner of the tables is a superuser, to whom no policy applies; for row security the
    sessions have another role.
    """
    if alteration == "row security":
        return {"ddl": [*EVERYTHING, *DDL], "role": ROLE}
    return {"ddl": DDL}


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"number": i + 7, "moment": NOON, "word": "w"} for i in range(count)]


def save(side: Side, *, own_keys: bool = False, **options: Any) -> Any:
    """Save some rows and commit; return how many rows have the keys that were returned, or the
    error.
    """

    def saving(session: Session) -> Any:
        session.execute(text("SET LOCAL TimeZone = 'America/New_York'"))
        rows = rows_of(side.way.rows)
        if own_keys:
            rows = [{**row, "id": 100_000 + i} for i, row in enumerate(rows)]
        try:
            keys = side.write(session, Reading, rows)
            found = len(
                session.execute(
                    text("SELECT id FROM reading WHERE id = ANY(:keys)"), {"keys": keys}
                ).all()
            )
            session.commit()
        except SQLAlchemyError as error:
            session.rollback()
            return refusal(error)
        return found

    return side.run(saving, **options)


def contents(side: Side) -> Any:
    """The contents of the tables without the ids, which need not be consecutive."""
    columns = side.rows(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = 'reading' AND column_name <> 'id' ORDER BY 1"
    )
    names = ", ".join(f"{name}::text" for (name,) in columns)
    return (
        side.rows(f"SELECT {names} FROM reading ORDER BY id"),
        side.rows("SELECT * FROM witness ORDER BY 1"),
    )


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.usefixtures("role")
def test_ddl_that_was_committed_before(
    twin_urls: tuple[str, str], alteration: str, way: Way
) -> None:
    """A table that was altered since the engine last used it is written as it is now."""
    both(twin_urls, Base, altered_before(alteration), way=way, **whose(alteration))


# Plain SQLAlchemy does not read back a key that the user gave, even if a trigger changes it.
@pytest.mark.parametrize("way", [COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("alteration", sorted(ALTERATIONS.keys() - {"a trigger"}))
@pytest.mark.usefixtures("role")
def test_ddl_before_rows_that_give_their_keys(
    twin_urls: tuple[str, str], alteration: str, way: Way
) -> None:
    """Rows that give their keys, for which nothing is reserved, are written to the altered table as
    it is now.
    """
    both(twin_urls, Base, altered_before(alteration, own_keys=True), way=way, **whose(alteration))


def altered_before(alteration: str, *, own_keys: bool = False) -> Callable[[Side], Any]:

    def trial(side: Side) -> Any:
        before = save(side)
        side.execute("DELETE FROM reading", *ALTERATIONS[alteration])
        return before, save(side, own_keys=own_keys), contents(side)

    return trial


@pytest.mark.parametrize(
    ("isolation", "way"),
    [("REPEATABLE READ", FEW), ("REPEATABLE READ", MAPPINGS), ("SERIALIZABLE", COPY)],
    ids=str,
)
@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.usefixtures("role")
def test_ddl_that_an_old_snapshot_does_not_see(
    twin_urls: tuple[str, str], alteration: str, isolation: str, way: Way
) -> None:
    """A transaction whose snapshot is older than the DDL writes the rows that INSERT would
    write.
    """

    def trial(side: Side) -> Any:
        before = save(side)

        def saving(session: Session) -> Any:
            session.connection(execution_options={"isolation_level": isolation})
            session.execute(text("SET LOCAL TimeZone = 'America/New_York'"))
            session.execute(text("SELECT count(*) FROM witness"))
            side.execute("DELETE FROM reading", *ALTERATIONS[alteration])
            try:
                keys = side.write(session, Reading, rows_of(side.way.rows))
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            return len(keys)

        return before, side.run(saving), contents(side)

    both(twin_urls, Base, trial, way=way, **whose(alteration))


@pytest.mark.parametrize(
    ("way", "warm"), [(MANY, True), (COPY, False), (MAPPINGS, True), (MAPPINGS, False)], ids=str
)
# For the alterations in LATE the stored rows depend on whether the alteration comes before or after
# them.
@pytest.mark.parametrize("alteration", sorted(ALTERATIONS.keys() - LATE))
@pytest.mark.usefixtures("role")
def test_ddl_between_reservation_and_writing(
    twin_urls: tuple[str, str], alteration: str, way: Way, warm: bool
) -> None:
    """Between the comparison of the facts and the writing of the rows no DDL can change the table:
    it waits, or is noticed.
    """

    def trial(side: Side) -> Any:
        if warm:
            save(side)
            side.execute("DELETE FROM reading")

        def alter() -> None:
            try:
                side.execute("SET lock_timeout = '300ms'", *ALTERATIONS[alteration])
            except DBAPIError as error:
                assert refusal(error)[2] == "55P03"  # noqa: PT017  # it may wait for the lock, and nothing else

        def saving(session: Session) -> Any:
            session.execute(text("SET LOCAL TimeZone = 'America/New_York'"))
            rows = rows_of(side.way.rows)
            for row in rows:
                del row["word"]
            during.append(alter)
            try:
                keys = side.write(session, Reading, rows)
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            assert not during
            return len(keys)

        said = side.run(saving)
        held = {key for (key,) in side.rows("SELECT id FROM reading")}
        if not isinstance(said, int):
            return "refused", len(held)
        # The locks decide whether the DDL comes before or after; the stored rows are the same.
        numbers = side.rows(
            "SELECT to_jsonb(reading) ->> 'number', (to_jsonb(reading) ->> 'moment')::timestamptz"
            " AT TIME ZONE 'UTC' FROM reading ORDER BY id"
        )
        return said, len(held), numbers

    both(twin_urls, Base, trial, way=way, **whose(alteration))


@pytest.mark.parametrize("call", ["reserve_ids", "assign_ids", "bulk_insert", "flush"])
@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_a_table_altered_again_and_again(twin_urls: tuple[str, str], call: str, times: int) -> None:
    """However often a table is altered between two statements of a call, every id that was asked
    for is returned.
    """

    def trial(side: Side) -> Any:
        if not side.registered:
            return (20, 20)
        save(side)
        left = [times]

        def alter(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if left[0] and "nextval" in statement:
                left[0] -= 1
                try:
                    side.execute(
                        "SET lock_timeout = '200ms'",
                        f"ALTER TABLE reading ADD extra{left[0]} int",
                        "ALTER TABLE reading ALTER id SET STATISTICS 50",
                    )
                except DBAPIError as error:
                    assert refusal(error)[2] == "55P03"  # noqa: PT017  # it may wait for the lock, and nothing else

        def taking(session: Session) -> Any:
            items = [Reading(number=i, word="w") for i in range(20)]
            event.listen(side.engine, "before_cursor_execute", alter)
            try:
                if call == "reserve_ids":
                    ids = list(reserve_ids(session, Reading, 20))
                elif call == "bulk_insert":
                    ids = list(bulk_insert(session, Reading, rows_of(20)))
                else:
                    session.add_all(items)
                    if call == "assign_ids":
                        assign_ids(session, items)
                    else:
                        session.flush()
                    ids = [item.id for item in items]
            finally:
                event.remove(side.engine, "before_cursor_execute", alter)
            session.commit()
            return len(ids), len(set(ids) - {None})

        return side.run(taking)

    both(twin_urls, Base, trial, ddl=DDL)


@pytest.mark.parametrize("position", range(1, 6))
@pytest.mark.parametrize("call", [check_sequences, repair_sequences])
@pytest.mark.parametrize("with_table", [False, True], ids=["sequence", "table"])
def test_a_repair_beside_drop_and_create(
    twin_urls: tuple[str, str], call: Any, position: int, with_table: bool
) -> None:
    """If objects are dropped between two statements of a check or repair, it reports, or raises an
    error of the database or of this package; never a bare error of Python.
    """

    def trial(side: Side) -> Any:
        side.execute("INSERT INTO reading (id) VALUES (50)")
        sent = [0]

        def drop(*_: Any) -> None:
            sent[0] += 1
            if sent[0] == position:
                try:
                    side.execute(
                        "SET lock_timeout = '200ms'",
                        "DROP TABLE reading"
                        if with_table
                        else "DROP SEQUENCE reading_id_seq CASCADE",
                        "CREATE TABLE reading (id bigserial PRIMARY KEY)"
                        if with_table
                        else "CREATE SEQUENCE reading_id_seq",
                    )
                except DBAPIError as error:
                    assert refusal(error)[2] == "55P03"  # noqa: PT017  # it may wait for the lock, and nothing else

        def calling(session: Session) -> None:
            event.listen(side.engine, "before_cursor_execute", drop)
            try:
                call(session, Base)
            except (SQLAlchemyError, SeqReserveError):
                session.rollback()
            finally:
                event.remove(side.engine, "before_cursor_execute", drop)

        side.run(calling)

    both(twin_urls, Base, trial, ddl=DDL)
