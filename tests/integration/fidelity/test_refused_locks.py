"""A refused lock, or a rule or trigger on the table, does not show to the application: privileges
and rules have the same effect as in plain SQLAlchemy, in a new and in an open transaction, on each
driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fixtures.least_role import ROLE
from fixtures.least_role import role as role
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import Identity, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import reserve_ids

pytestmark = pytest.mark.usefixtures("role")
DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
FEW, COPY, MAPPINGS = WAYS[1], WAYS[3], WAYS[6]
ALWAYS = Way("reserve first", {"reserve": "always"}, rows=3)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]


def rows_of(side: Side) -> list[dict[str, Any]]:
    return [{"name": f"n{i}", "note": "x"} for i in range(side.way.rows)]


def save(side: Side, *before: str, beside: Sequence[str] = (), opened: bool = True) -> Any:
    """Save in a transaction after the statements ``before``, and after another connection executed
    those in ``beside``; return the result and the rows.
    """

    def saving(session: Session) -> Any:
        if opened:
            session.execute(text("SELECT 1"))
        for statement in before:
            session.execute(text(statement))
        side.execute(*beside)
        try:
            side.write(session, Item, rows_of(side))
        except SQLAlchemyError as error:
            statement = error.statement if isinstance(error, DBAPIError) else None
            session.rollback()
            return refusal(error), (statement or "").partition(" (")[0]
        session.execute(text("RESET ROLE"))
        session.commit()
        return "saved"

    return side.run(saving), side.rows("SELECT name, note FROM item ORDER BY id")


USAGE = f"GRANT USAGE ON SCHEMA public TO {ROLE}"
GRANTS = {
    "table": f"GRANT INSERT, SELECT ON item TO {ROLE}",
    "columns": f"GRANT INSERT (name, note), SELECT (id) ON item TO {ROLE}",
    "no insert": f"GRANT SELECT ON item TO {ROLE}",
}
BECOME = f"SET LOCAL ROLE {ROLE}"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS, ALWAYS], ids=str)
@pytest.mark.parametrize("grant", list(GRANTS))
@pytest.mark.parametrize("opened", [False, True], ids=["new", "open"])
def test_what_a_role_may(
    twin_urls: tuple[str, str], grant: str, way: Way, driver: str, opened: bool
) -> None:
    """A role that may insert can save, and one that may not gets INSERT's error, whichever role
    used the engine before.
    """

    def trial(side: Side) -> Any:
        if opened:
            return save(side), save(side, BECOME)
        # The connection has this role from the beginning, so that the save begins the transaction.
        side.run(lambda session: session.connection(), expire_on_commit=False)

        def become(session: Session) -> None:
            session.execute(text(f"SET ROLE {ROLE}"))
            session.commit()

        return save(side, opened=False), side.run(become), save(side, opened=False)

    both(twin_urls, Base, trial, way=way, driver=driver, ddl=[USAGE, GRANTS[grant]])


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS, ALWAYS], ids=str)
@pytest.mark.parametrize("left", ["columns", "no insert"])
def test_a_revoke_beside_what_is_known(
    twin_urls: tuple[str, str], left: str, way: Way, driver: str
) -> None:
    """Privileges that are granted or revoked while a transaction is open apply to its next save."""

    def trial(side: Side) -> Any:
        revoke = f"REVOKE ALL ON item FROM {ROLE}"
        grant = GRANTS["table"]
        return (
            save(side, BECOME),
            save(side, BECOME, beside=[revoke, GRANTS[left]]),
            save(side, BECOME, beside=[revoke, grant]),
        )

    both(twin_urls, Base, trial, way=way, driver=driver, ddl=[USAGE, GRANTS["table"]])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_refused_reservation_fails_no_transaction(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """If the role may not insert into a table, a reservation for it raises an error, and the open
    transaction keeps what it wrote.
    """

    def trial(side: Side) -> Any:
        def reserving(session: Session) -> Any:
            if side.registered:
                reserve_ids(session, Item, 2)
                session.commit()
            session.execute(text("INSERT INTO other (name) VALUES ('kept')"))
            session.execute(text(BECOME))
            if side.registered:
                with pytest.raises(SQLAlchemyError, match="no INSERT privilege on the whole of"):
                    reserve_ids(session, Item, 2)
            session.execute(text("RESET ROLE"))
            session.commit()
            return side.rows("SELECT name FROM other")

        return side.run(reserving)

    both(twin_urls, Base, trial, driver=driver, ddl=[USAGE, GRANTS["no insert"]])


RULE = "CREATE RULE also AS ON INSERT TO item DO ALSO INSERT INTO other (name) VALUES (NEW.name)"
NOTHING = "CREATE RULE nothing AS ON INSERT TO item WHERE NEW.name = 'n1' DO INSTEAD NOTHING"
COUNTED = (
    "CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN INSERT INTO other (name) VALUES (TG_WHEN); RETURN NULL; END $$"
)
AFTER = "CREATE TRIGGER counted AFTER INSERT ON item FOR EACH STATEMENT EXECUTE FUNCTION counted()"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS, ALWAYS], ids=str)
@pytest.mark.parametrize("warm", [False, True], ids=["there", "made beside"])
@pytest.mark.parametrize("watching", [RULE, NOTHING, AFTER], ids=["rule", "condition", "trigger"])
def test_the_lock_wakes_nobody(
    twin_urls: tuple[str, str], watching: str, warm: bool, way: Way, driver: str
) -> None:
    """The lock of the table applies no rule on INSERT, and fires no trigger for statements: only
    the statements that write rows do.
    """

    def trial(side: Side) -> Any:
        before = save(side) if warm else None
        side.execute(COUNTED, watching)
        told = save(side), save(side)
        return before, told, side.rows("SELECT DISTINCT name FROM other ORDER BY name")

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [COPY, WAYS[0], WAYS[4]], ids=str)
@pytest.mark.parametrize("warm", [False, True], ids=["there", "made beside"])
def test_a_trigger_for_statements_fires_once_a_statement(
    twin_urls: tuple[str, str], warm: bool, way: Way, driver: str
) -> None:
    """A trigger for statements fires for the statements that write rows, and not for the lock."""

    def trial(side: Side) -> Any:
        if warm:
            save(side)
        side.execute(COUNTED, AFTER)
        save(side)
        return min(side.rows("SELECT count(*) FROM other")[0][0], side.way.rows)

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS, ALWAYS], ids=str)
def test_a_default_that_the_role_may_not_compute(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """A role that gives a column's value needs no privilege on the function of the column's
    default.
    """
    ddl = [
        "CREATE FUNCTION noted() RETURNS text LANGUAGE sql AS $$ SELECT 'computed'::text $$",
        "REVOKE ALL ON FUNCTION noted() FROM public",
        "ALTER TABLE item ALTER note SET DEFAULT noted()",
        USAGE,
        GRANTS["table"],
    ]

    def trial(side: Side) -> Any:
        return save(side, BECOME), save(side, BECOME)

    both(twin_urls, Base, trial, way=way, driver=driver, ddl=ddl)
