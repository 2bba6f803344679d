"""Row-level security: if a policy applies to the role, rows are written as by plain SQLAlchemy; if
none applies, as without policies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.least_role import EVERYTHING, ROLE
from fixtures.least_role import role as role
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import insert, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register

pytestmark = pytest.mark.usefixtures("role")

DRIVERS = ("psycopg", "psycopg2", "asyncpg")
FEW, COPY, MAPPINGS = WAYS[1], WAYS[3], WAYS[6]


during: list[Callable[[], object]] = []
"""The calls that the default of a column makes while a row is prepared."""


def run_what_is_to_run() -> str:
    while during:
        during.pop()()
    return "x"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    mark: Mapped[str | None] = mapped_column(default=run_what_is_to_run)


ENABLED = "ALTER TABLE note ENABLE ROW LEVEL SECURITY"
FORCED = "ALTER TABLE note FORCE ROW LEVEL SECURITY"
POLICY = "CREATE POLICY shown ON note USING (body <> 'hidden') WITH CHECK (body <> 'refused')"
SECURED = (*EVERYTHING, ENABLED, POLICY)
BECOME = f"SET LOCAL ROLE {ROLE}"

EXEMPT = {
    "owner": f"ALTER TABLE note OWNER TO {ROLE}",
    "bypassing": f"ALTER ROLE {ROLE} BYPASSRLS",
    "superuser": f"ALTER ROLE {ROLE} SUPERUSER",
}
"""Statements that exempt the role from policies."""

TURNS = (("refused", "b"), ("refused", "c"), ("hidden", "d"), ("e", "f"), ("refused", "g"))
TURNS += TURNS[1:]

REASON = "note has row-level security"


def save(side: Side, *before: str, bodies: tuple[str, ...] = ("a", "b", "c")) -> Any:
    """Save notes in a transaction that begins with these statements; return their number or the
    error.
    """

    def saving(session: Session) -> Any:
        for statement in before:
            session.execute(text(statement))
        return written(side, session, bodies)

    return side.run(saving)


def written(side: Side, session: Session, bodies: tuple[str, ...]) -> Any:
    try:
        keys = side.write(session, Note, [{"body": body} for body in bodies])
        session.commit()
    except SQLAlchemyError as error:
        session.rollback()
        return refusal(error)
    return len(keys)


def notes(side: Side) -> Any:
    return side.rows("SELECT body, count(*) FROM note GROUP BY body ORDER BY body")


@pytest.mark.parametrize(
    ("exempt", "driver"), [*zip(EXEMPT, DRIVERS, strict=True), ("owner", "asyncpg")]
)
def test_whom_no_policy_concerns_goes_by_copy(
    twin_urls: tuple[str, str], driver: str, exempt: str
) -> None:
    """The owner of a table without FORCE, and a role that bypasses policies, write the table by
    COPY.
    """

    def trial(side: Side) -> Any:
        found = save(side, bodies=("refused", "hidden", "c"))
        if side.registered:
            assert side.writers() == {("copy", None)}
        return found, notes(side)

    ddl = [*SECURED, EXEMPT[exempt]]
    both(twin_urls, Base, trial, way=COPY, driver=driver, ddl=ddl, role=ROLE)


def test_policies_of_a_table_are_noticed_and_explained(twin_urls: tuple[str, str]) -> None:
    """Enabled policies are noticed by the next flush, and so is their end; explain() names them,
    for changed and deleted objects too.
    """

    def trial(side: Side) -> Any:
        found = []
        for statement, reason in (
            ("SELECT 1", None),
            (ENABLED, REASON),
            ("ALTER TABLE note DISABLE ROW LEVEL SECURITY", None),
        ):
            side.execute(statement)
            side.reports.clear()
            found.append(save(side))
            if side.registered:
                assert side.writers() == {("orm", reason) if reason else ("copy", None)}
                [told] = side.run(explained)
                assert (told.reason, told.many_reason) == (reason, reason)
        return found, notes(side)

    def explained(session: Session) -> Any:
        return register(session, copy_min_rows=1).explain(session.connection(), [Note])

    both(twin_urls, Base, trial, ddl=[*EVERYTHING, POLICY], role=ROLE)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("whose", ["the role's", "the owner's, forced", "not allowed to be off"])
def test_whom_policies_concern_is_left_to_plain(
    twin_urls: tuple[str, str], driver: str, way: Way, whose: str
) -> None:
    """Rows that a policy hides or refuses are hidden and refused as in plain SQLAlchemy."""

    def trial(side: Side) -> Any:
        before = ["SET LOCAL row_security = off"] if whose.endswith("off") else []
        found = [
            save(side, *before, bodies=(body, "b", "c")) for body in ("a", "hidden", "refused")
        ]
        if side.registered and way is COPY:
            assert side.writers() <= {("orm", REASON)}
        return found, notes(side)

    ddl = [*SECURED, *([EXEMPT["owner"], FORCED] if whose.endswith("forced") else ())]
    both(twin_urls, Base, trial, way=way, driver=driver, ddl=ddl, role=ROLE)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize("at", ["in one transaction", "in the next one", "for the connection"])
def test_a_role_that_changes_between_two_saves(
    twin_urls: tuple[str, str], driver: str, way: Way, at: str
) -> None:
    """If the role changes between two saves, the facts that were read for the former role are
    compared for the new one.
    """

    def trial(side: Side) -> Any:
        def saving(session: Session) -> Any:
            found = []
            for turn, bodies in enumerate(TURNS):
                if at == "for the connection":
                    session.execute(text(f"SET ROLE {ROLE}" if turn % 2 else "RESET ROLE"))
                    session.commit()
                elif turn % 2:
                    session.execute(text(BECOME))
                elif at == "in one transaction":
                    session.execute(text("SET LOCAL ROLE NONE"))
                rows = [
                    {"body": body, **({"id": 1000 * turn + place} if turn > 4 else {})}
                    for place, body in enumerate(bodies)
                ]
                try:
                    with session.begin_nested():
                        found.append(len(side.write(session, Note, rows)))
                except SQLAlchemyError as error:
                    found.append(refusal(error))
                if at == "in the next one":
                    session.commit()
            session.commit()
            return found

        found = side.run(saving), [save(side, BECOME, bodies=("refused",))]
        if side.registered and way is COPY:
            assert side.writers() == {("copy", None), ("orm", REASON)}
        return found, notes(side)

    both(twin_urls, Base, trial, way=way, driver=driver, ddl=SECURED)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_role_that_changes_while_rows_are_made_ready(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """If a default changes the role between the reservation and the COPY, no row that a policy
    refuses is stored, because the server refuses the COPY.
    """

    def trial(side: Side) -> Any:
        def saving(session: Session) -> Any:
            session.connection()
            during.append(lambda: session.connection().execute(text(BECOME)) and None)
            try:
                side.write(session, Note, [{"body": body} for body in ("refused", "b")])
                session.commit()
            except SQLAlchemyError as error:
                during.clear()
                session.rollback()
                return refusal(error)[2] in {"42501", "0A000"}
            return "written"

        return side.run(saving), notes(side)

    both(twin_urls, Base, trial, way=COPY, driver=driver, ddl=SECURED)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", ["update", "delete", "insert"])
def test_statements_over_many_rows_ask_for_the_role_that_executes_them(
    twin_urls: tuple[str, str], driver: str, kind: str
) -> None:
    """UPDATEs, DELETEs and INSERTs of many rows after a change of role see the rows that the
    policies of the new role show.
    """

    def trial(side: Side) -> Any:
        def changing(session: Session, first: int) -> None:
            kept = list(range(first, first + 60))
            if kind == "insert":
                session.execute(insert(Note), [{"id": n + 1000, "body": "n"} for n in kept])
            elif kind == "update":
                session.execute(update(Note), [{"id": n, "body": f"u{n}"} for n in kept])
            elif kind == "delete":
                for note in session.query(Note).filter(Note.id.in_(kept)):
                    session.delete(note)
                session.flush()

        def acting(session: Session) -> Any:
            changing(session, 1)
            session.execute(text(BECOME))
            try:
                changing(session, 61)
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            return None

        return side.run(acting), side.rows("SELECT * FROM note ORDER BY id")

    fill = (
        "INSERT INTO note (body) SELECT CASE WHEN n % 7 = 0 THEN 'hidden' ELSE 'n' END"
        " FROM generate_series(1, 120) n"
    )
    both(twin_urls, Base, trial, way=WAYS[2], driver=driver, ddl=[*SECURED, fill])
