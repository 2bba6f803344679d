"""One statement over many rows means what one statement a row means: where it might not, SQLAlchemy
writes. Each test runs plain SQLAlchemy beside a registered session.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Side, Way, both, refusal, told_and_left
from sqlalchemy import (
    ARRAY,
    Interval,
    Numeric,
    Table,
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
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import await_only

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
EVERY = pytest.mark.parametrize("driver", DRIVERS)
FORCED = Way("from one row", {"copy_min_rows": 1})


class Base(DeclarativeBase):
    pass


class Place(Base):
    """A row with a position that is unique in some tests, and a parent in others."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int | None]
    parent_id: Mapped[int | None]
    name: Mapped[str | None]
    c0: Mapped[int | None]
    number: Mapped[int | None]
    tags: Mapped[list[int] | None] = mapped_column(ARRAY(Numeric))
    span: Mapped[dt.timedelta | None] = mapped_column(Interval)


class Priced(Base):
    """A key that its type rounds."""

    __tablename__ = "priced"
    price: Mapped[Decimal] = mapped_column(Numeric(6, 2), primary_key=True)
    value: Mapped[int | None]


PLACE: Any = Place.__table__
ROWS = 6
Act = Callable[[Session], Any]


def filled(session: Session, count: int = ROWS) -> list[Place]:
    """Places at the positions 1, 2, ..."""
    found = [Place(id=i, position=i, name=f"n{i}", c0=i, number=i) for i in range(1, count + 1)]
    session.add_all(found)
    session.commit()
    return list(session.scalars(select(Place).order_by(Place.id)))


def compared(
    urls: tuple[str, str],
    driver: str,
    act: Act,
    *ddl: str,
    tables: Sequence[str] = ("place",),
    base: Any = Base,
) -> Any:
    """What the act returns, raises, warns of and leaves on both sides, the same."""

    def trial(side: Side) -> Any:
        return told_and_left(side, act, tables)

    return both(urls, base, trial, way=FORCED, driver=driver, ddl=ddl)


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
    """Unique values that are swapped or shifted are refused, or not, as row by row."""
    compared(twin_urls, driver, moved(lambda position: 7 - position), unique)
    compared(twin_urls, driver, moved(lambda position: position + 1), unique)
    compared(twin_urls, driver, moved(lambda position: position - 1), unique)


@EVERY
def test_a_unique_index_made_meanwhile(twin_urls: tuple[str, str], driver: str) -> None:
    """A unique index that is made after the table was looked at counts too."""

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


BODIES = {
    "BEFORE": "NEW.number := (SELECT sum(position) FROM place); RETURN NEW;",
    "AFTER": "UPDATE place SET number = NEW.position WHERE id = NEW.id + 1"
    " AND pg_trigger_depth() = 1; RETURN NULL;",
}


@EVERY
@pytest.mark.parametrize("when", BODIES)
def test_triggers_that_look_at_other_rows(
    twin_urls: tuple[str, str], driver: str, when: str
) -> None:
    """A row trigger finds other rows as it would find them between single UPDATEs."""

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
    """A row trigger on DELETE finds the rows that are left as between single DELETEs."""

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
    """A row trigger on INSERT finds the rows so far as between single INSERTs."""

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
    """Rows of one table that refer to each other come and go as one by one."""

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
    """A statement that finds what its own rows before have written finds it."""
    statement, rows = MEANT[meant]

    def act(session: Session) -> Any:
        filled(session)
        found: Any = session.execute(statement, rows)
        session.commit()
        return found.rowcount if found.supports_sane_multi_rowcount() else None

    compared(twin_urls, driver, act, "CREATE SEQUENCE counter")


@EVERY
def test_keys_that_a_cast_makes_equal(twin_urls: tuple[str, str], driver: str) -> None:
    """Two keys that their cast rounds to one are for one row, which the last of them leaves."""

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


@EVERY
def test_nothing_in_a_column_of_arrays(twin_urls: tuple[str, str], driver: str) -> None:
    """NULL is written to arrays, for all rows and for some."""

    def act(session: Session) -> None:
        places = filled(session)
        for place in places:
            place.tags, place.number = [1, 2], 5
        session.commit()
        for place in places:
            place.tags, place.number = None, 6
        session.commit()

    compared(twin_urls, driver, act)


@EVERY
@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601", "postgres_verbose"])
def test_interval_styles(twin_urls: tuple[str, str], driver: str, style: str) -> None:
    """A negative interval is read as the driver's own is, whatever the session's IntervalStyle."""

    def act(session: Session) -> None:
        places = filled(session)
        session.execute(text(f"SET LOCAL IntervalStyle = {style}"))
        for place in places:
            place.span = dt.timedelta(days=-place.id, seconds=5, microseconds=7)
        session.commit()

    compared(twin_urls, driver, act)


@EVERY
@pytest.mark.parametrize(
    "rights",
    [
        "SELECT, DELETE",
        "SELECT, UPDATE",
        "SELECT, UPDATE (number)",
        "SELECT (id), UPDATE (number), DELETE",
        "SELECT, INSERT",
        "SELECT",
    ],
)
def test_rights(twin_urls: tuple[str, str], driver: str, rights: str) -> None:
    """Who may change and delete rows one by one may change and delete many."""

    def act(session: Session) -> Any:
        for i, place in enumerate(filled(session)):
            place.number = i
        session.commit()
        found = []
        for kind in ("update", "delete"):
            session.execute(text("SET ROLE many_least"))
            try:
                keys = [{"a": i} for i in range(1, 5)]
                key = PLACE.c.id == bindparam("a")
                if kind == "update":
                    session.execute(update(PLACE).where(key).values(number=5), keys)
                else:
                    session.execute(delete(PLACE).where(key), keys)
                session.execute(text("RESET ROLE"))
                session.commit()
                found.append("done")
            except SQLAlchemyError as error:
                found.append(refusal(error))
                session.rollback()
        return found

    compared(
        twin_urls,
        driver,
        act,
        "DO $$BEGIN CREATE ROLE many_least; EXCEPTION WHEN duplicate_object THEN NULL; END$$",
        "GRANT USAGE ON SCHEMA public TO many_least",
        f"GRANT {rights} ON place TO many_least",
    )


@EVERY
def test_a_schema_of_the_statement(twin_urls: tuple[str, str], driver: str) -> None:
    """A statement with a ``schema_translate_map`` of its own is for the table that this names."""

    def act(session: Session) -> None:
        filled(session)
        session.execute(text("INSERT INTO other.place SELECT * FROM place WHERE id > 3"))
        session.execute(
            update(PLACE).where(PLACE.c.id == bindparam("a")).values(number=bindparam("b")),
            [{"a": i, "b": 7} for i in range(1, 7)],
            execution_options={"schema_translate_map": {None: "other"}},
        )
        session.execute(
            insert(PLACE),
            [{"id": i, "number": 7} for i in range(11, 17)],
            execution_options={"schema_translate_map": {None: "other"}},
        )
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE SCHEMA other",
        "CREATE TABLE other.place (LIKE place)",
        tables=("place", "other.place"),
    )


@EVERY
def test_tables_that_inherit(twin_urls: tuple[str, str], driver: str) -> None:
    """Rows of tables that inherit are changed with their triggers, as one by one."""

    def act(session: Session) -> None:
        filled(session)
        session.execute(text("INSERT INTO inner_place SELECT * FROM ONLY place WHERE id > 2"))
        session.execute(text("DELETE FROM ONLY place WHERE id > 2"))
        session.commit()
        places = session.scalars(select(Place).order_by(Place.id)).all()
        for place in places:
            place.position, place.number = place.id * 10, place.id * 100
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE TABLE inner_place () INHERITS (place)",
        f"""CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {BODIES["BEFORE"]} END$$""",
        """CREATE TRIGGER look BEFORE UPDATE ON inner_place
        FOR EACH ROW EXECUTE FUNCTION look()""",
    )


ODD = (
    *("where", "values", "number", "c0", "100%", "%(x)s", "a:b", 'a"b', "a'b", "$1", "$x$"),
    *("sqla_seqreserve_sent", "sqla_seqreserve_locked", "a.b", "a b", "WHERE x", "(", "a(b)"),
)


@EVERY
@pytest.mark.parametrize("name", ODD)
def test_odd_names(twin_urls: tuple[str, str], driver: str, name: str) -> None:
    """Tables and columns of any name are written to."""
    from sqlalchemy import Column, Integer, String

    class Own(DeclarativeBase):
        pass

    table: Table = Table(
        name,
        Own.metadata,
        Column("key", Integer, key="key", primary_key=True),
        Column(name if name != "key" else "other", String, key="value"),
        Column(f"{name} 2", Integer, key="value2"),
    )

    def act(session: Session) -> Any:
        session.execute(insert(table), [{"key": i, "value": f"{name}{i}"} for i in range(5)])
        session.execute(
            update(table)
            .where(table.c.key == bindparam("k"))
            .values(value=bindparam("v"), value2=bindparam("w") + 1),
            [{"k": i, "v": f"%(v)s $1 {name}", "w": i} for i in range(5)],
        )
        session.execute(delete(table).where(table.c.key == bindparam("k")), [{"k": 1}, {"k": 3}])
        session.commit()
        return [tuple(row) for row in session.execute(select(table).order_by(table.c.key))]

    compared(twin_urls, driver, act, tables=(), base=Own)


def test_codecs_of_asyncpg_users(twin_urls: tuple[str, str]) -> None:
    """What the user had asyncpg encode otherwise is encoded so in statements for many rows."""

    def act(session: Session) -> None:
        driver: Any = session.connection().connection.driver_connection
        session.execute(insert(Priced), [{"price": Decimal(i)} for i in (1, 7)])
        for name, encode in (("numeric", lambda _: "7"), ("interval", lambda _: "7 days")):
            await_only(
                driver.set_type_codec(
                    name, encoder=encode, decoder=str, schema="pg_catalog", format="text"
                )
            )
        for place in filled(session):
            place.span = dt.timedelta(place.id)
        session.commit()
        table: Any = Priced.__table__
        session.execute(
            update(table).where(table.c.price == bindparam("p")).values(value=1),
            [{"p": Decimal(i)} for i in range(5)],
        )
        session.commit()

    compared(twin_urls, "asyncpg", act, tables=("place", "priced"))


def test_dumpers_of_psycopg_users(twin_urls: tuple[str, str]) -> None:
    """What the user had psycopg write otherwise is written so in statements for many rows."""
    from psycopg.types.string import StrDumper

    class Loud(StrDumper):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.upper())

    def act(session: Session) -> None:
        driver: Any = session.connection().connection.driver_connection
        driver.adapters.register_dumper(str, Loud)
        for place in filled(session):
            place.name = f"quiet {place.id}"
        session.commit()

    compared(twin_urls, "psycopg", act)


def test_within_a_pipeline_of_the_user(twin_urls: tuple[str, str]) -> None:
    """Within psycopg's pipeline mode a list is inserted, and the rows of an UPDATE are not known,
    as in plain.
    """

    def inserts(session: Session) -> None:
        filled(session)
        driver: Any = session.connection().connection.driver_connection
        with driver.pipeline():
            session.execute(insert(Place), [{"id": i} for i in range(10, 15)])
        session.commit()

    def updates(session: Session) -> None:
        filled(session)
        driver: Any = session.connection().connection.driver_connection
        with driver.pipeline():
            session.execute(update(Place), [{"id": i, "number": 7} for i in range(1, 5)])
        session.commit()

    outcome, _, _ = compared(twin_urls, "psycopg", inserts)
    assert outcome is None
    compared(twin_urls, "psycopg", updates)
