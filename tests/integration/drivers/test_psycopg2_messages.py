"""Several statements in one message on psycopg2: the returned values, the position of an error, and
the row count of each statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from fixtures.tables import make_tables
from psycopg2 import extensions
from sqlalchemy import Engine, MetaData, create_engine, make_url

from sqla_seqreserve._drivers import Driver, InsertMessage, MessageError, driver_of

MADE_BY_HAND = MetaData()
SETUP = (
    "CREATE TABLE item"
    " (id int PRIMARY KEY, name varchar(5) CHECK (name <> ''), by_default int DEFAULT 7)",
    'CREATE TABLE "Other %" (id int PRIMARY KEY, item int REFERENCES item DEFERRABLE)',
    "CREATE TABLE audited (id int)",
    "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN INSERT INTO item (id) VALUES (NEW.id); RETURN NEW; END $$",
    "CREATE TRIGGER audit AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audit()",
)


@pytest.fixture
def engine(twin_urls: tuple[str, str]) -> Iterator[Engine]:
    make_tables(twin_urls[1], MADE_BY_HAND, SETUP)
    engine = create_engine(make_url(twin_urls[1]).set(drivername="postgresql+psycopg2"))
    yield engine
    engine.dispose()


@pytest.fixture
def driver(engine: Engine) -> Driver:
    found = driver_of(engine.dialect)
    assert found is not None
    return found


class Statements:
    """Counts what psycopg2 sends and is not refused, by a cursor class of psycopg2's kind."""

    def __init__(self, connection: Any) -> None:
        self.sent: list[bytes] = []
        sent = self.sent

        class Counting(extensions.cursor):  # type: ignore[misc]  # psycopg2 is untyped
            def execute(self, query: Any, parameters: Any = None) -> None:
                super().execute(query, parameters)
                sent.append(self.query)

        connection.driver_connection.cursor_factory = Counting


INSERT = "INSERT INTO item (id, name) VALUES (%(id)s, %(name)s)"
OTHER = 'INSERT INTO "Other %%" (id, item) VALUES (%(id)s, %(item)s)'


def named(*names: tuple[int, str | None]) -> list[dict[str, Any]]:
    return [{"id": key, "name": name} for key, name in names]


def test_inserts_travel_together_up_to_one_that_returns(engine: Engine, driver: Driver) -> None:
    """A statement that returns values ends a message, because psycopg2 returns only the rows of the
    last statement.
    """
    returning = f"{INSERT} RETURNING id, by_default"
    inserts = [
        InsertMessage(INSERT, named((1, "it's"), (2, None)), returns=False),
        InsertMessage(OTHER, [{"id": 1, "item": 2}], returns=False),
        InsertMessage(returning, named((3, "%s"), (4, "\\")), returns=True),
        InsertMessage(INSERT, named((5, "e")), returns=False),
    ]
    with engine.connect() as connection:
        statements = Statements(connection.connection)
        rows = [back.rows for back in driver.send(connection.connection, inserts)]
        assert rows == [[], [], [(3, 7), (4, 7)], []]
        assert len(statements.sent) == 3
        found = connection.exec_driver_sql("SELECT id, name FROM item ORDER BY id").all()
        assert found == [(1, "it's"), (2, None), (3, "%s"), (4, "\\"), (5, "e")]


@pytest.mark.parametrize(
    ("inserts", "place"),
    [
        pytest.param([(INSERT, named((1, "too long")))], (0, 0, True), id="alone"),
        pytest.param(
            [(INSERT, named((1, "a"))), (OTHER, [{"id": 1, "item": 9}])],
            (1, 0, True),
            id="foreign key",
        ),
        pytest.param(
            [(INSERT, named((1, "é"), (2, ""))), (OTHER, [{"id": 1, "item": 1}])],
            (0, 0, False),
            id="check, one of two rows",
        ),
        pytest.param(
            [(INSERT, named((1, "é"))), (OTHER, [{"id": 1, "item": "many"}])],
            (1, 0, True),
            id="at an offset",
        ),
        pytest.param(
            [(INSERT, named((1, "too long"))), (OTHER, [{"id": 1, "item": None}])],
            (0, 0, False),
            id="anywhere",
        ),
        pytest.param(
            [
                (OTHER, [{"id": 1, "item": None}]),
                (INSERT, named((1, "a"))),
                ("INSERT INTO audited (id) VALUES (%(id)s)", [{"id": 1}]),
            ],
            (0, 0, False),
            id="in a trigger",
        ),
    ],
)
def test_an_error_tells_its_place_where_the_server_does(
    engine: Engine,
    driver: Driver,
    inserts: list[tuple[str, list[dict[str, Any]]]],
    place: tuple[int, int, bool],
) -> None:
    """The position of an error is certain if an offset, or the table of a constraint, fits one
    statement only.
    """
    messages = [InsertMessage(statement, rows, returns=False) for statement, rows in inserts]
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(MessageError) as failed:
            driver.send(connection.connection, messages)
    error = failed.value
    assert (error.position, error.row, error.is_certain) == place
    assert isinstance(error.__cause__, psycopg2.Error)


def test_a_comment_behind_a_statement_reaches_no_further(engine: Engine, driver: Driver) -> None:
    """A comment behind a statement ends with its line and does not affect the next statement, and
    the position of an error is still found.
    """
    tagged = f"{INSERT} -- from the shop"
    inserts = [InsertMessage(tagged, named((n, "a"), (n + 1, "b")), returns=False) for n in (1, 3)]
    with engine.connect() as connection:
        driver.send(connection.connection, inserts)
        found = connection.exec_driver_sql("SELECT id FROM item ORDER BY id").scalars().all()
        assert found == [1, 2, 3, 4]
        bad = [
            InsertMessage(tagged, named((5, "a")), returns=False),
            InsertMessage("INSERT INTO item (nothing) VALUES (1) -- c", [{}], returns=False),
        ]
        with pytest.raises(MessageError) as failed:
            driver.send(connection.connection, bad)
    assert (failed.value.position, failed.value.is_certain) == (1, True)


def test_a_value_that_cannot_be_adapted_ends_the_message(engine: Engine, driver: Driver) -> None:
    """A value that psycopg2 cannot adapt raises its own error with the position; the statements
    before it are executed, if there are any.
    """
    bad = InsertMessage(INSERT, [{"id": 2, "name": object()}], returns=False)
    inserts = [InsertMessage(INSERT, named((1, "a"), (3, "b")), returns=False), bad]
    with engine.connect() as connection:
        with pytest.raises(MessageError) as failed:
            driver.send(connection.connection, [bad, *inserts])
        assert (failed.value.position, failed.value.row) == (0, 0)
        assert driver.transaction_status(connection.connection) == "idle"
        with pytest.raises(MessageError) as failed:
            driver.send(connection.connection, inserts)
        assert (failed.value.position, failed.value.row) == (1, 0)
        assert isinstance(failed.value.__cause__, psycopg2.ProgrammingError)
        found = connection.exec_driver_sql("SELECT id FROM item ORDER BY id").scalars().all()
        assert found == [1, 3]


CHANGE = "UPDATE {} SET name = %(name)s WHERE id = %(id)s"


def changes(table: str, *names: tuple[int, str]) -> InsertMessage:
    return InsertMessage(CHANGE.format(table), named(*names), returns=False, counts=table)


def sent_and_counted(driver: Driver, connection: Any, *messages: InsertMessage) -> Any:
    """The number of messages sent, and the row count reported for each statement."""
    statements = Statements(connection.connection)
    counts = [back.count for back in driver.send(connection.connection, messages)]
    return len(statements.sent), counts


def test_rows_that_are_matched_are_counted_in_one_message(engine: Engine, driver: Driver) -> None:
    """The rows that several UPDATEs match are counted within one message, also with a comment
    behind them; a statement that returns values ends it.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO item SELECT i, 'a' FROM generate_series(1, 4) i")
        commented = InsertMessage(
            CHANGE.format("item") + " -- from the shop", named((3, "d")), False, "item"
        )
        some = (changes("item", (1, "b"), (2, "c")), commented)
        assert sent_and_counted(driver, connection, *some) == (1, [2, 1])
        added = InsertMessage(f"{INSERT} RETURNING id", named((5, "e")), returns=True)
        assert sent_and_counted(driver, connection, *some, added, *some) == (2, [2, 1, 1, 2, 1])
        assert sent_and_counted(driver, connection, changes("item", (1, "z"))) == (1, [1])


def test_rows_that_are_missing_are_counted_one_by_one(engine: Engine, driver: Driver) -> None:
    """If a row is missing, the message is undone and each statement is sent by itself with its own
    count; the next flush uses one message again.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (1, 'a')")
        some = (changes("item", (1, "b"), (9, "c")), changes("item", (1, "d")))
        # What undoes the message, and three statements.
        assert sent_and_counted(driver, connection, *some) == (4, [1, 1])
        good = (changes("item", (1, "b")), changes("item", (1, "d")))
        assert sent_and_counted(driver, connection, *good) == (1, [1, 1])
        assert connection.exec_driver_sql("SELECT name FROM item").scalar() == "d"


def test_an_error_of_counted_statements_has_its_place(engine: Engine, driver: Driver) -> None:
    """An error of any counted statement, also of one that returns values, has its position, and the
    earlier counts are known.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
        connection.commit()
        good = changes("item", (1, "x"), (2, "y"))
        for message, place in (
            (changes("item", (1, "x"), (2, "far too long")), (1, 1)),
            (InsertMessage(f"{INSERT} RETURNING id", named((1, "a")), True), (1, 0)),
        ):
            with pytest.raises(MessageError) as failed:
                driver.send(connection.connection, [good, message])
            error = failed.value
            assert (error.position, error.row, error.is_certain) == (*place, True)
            assert error.returned[0].count == 2
            connection.rollback()


@pytest.mark.parametrize("table", ["plain_view", "noted"])
def test_what_a_rule_writes_is_sent_by_itself(engine: Engine, driver: Driver, table: str) -> None:
    """An UPDATE of a table with a rule is sent by itself, from the second time on at once, because
    a rule's rows are not those to be counted.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
        connection.exec_driver_sql("CREATE VIEW plain_view AS SELECT * FROM item")
        for name in ("kept", "noted"):
            connection.exec_driver_sql(f"CREATE TABLE {name} AS SELECT 1 AS id, 'a' AS name")
        connection.exec_driver_sql(
            "CREATE RULE noting AS ON UPDATE TO noted DO INSTEAD UPDATE kept SET name = NEW.name "
            "WHERE id = OLD.id RETURNING kept.*"
        )
        some = (changes(table, (1, "y")), changes("item", (2, "y"), (2, "z")))
        # What undoes the message, and three statements.
        assert sent_and_counted(driver, connection, *some) == (4, [1, 2])
        # What was in a message with it, too: nobody knows which of them it was.
        assert sent_and_counted(driver, connection, *some) == (3, [1, 2])
