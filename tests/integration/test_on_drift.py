"""``register(..., on_drift=...)`` on the database of the incident: rows were imported, and the
sequences were not moved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fixtures.drifting import activity, factory_of, save
from fixtures.production_like import IMPORTED
from sqlalchemy import Engine, Integer, Sequence, create_engine, func, select, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import check_sequences, register, repair_sequences
from sqla_seqreserve.errors import (
    ConfigurationError,
    LockTimeoutError,
    SequenceDriftError,
    SequenceDriftWarning,
)
from sqla_seqreserve.portfolio.models import Base, HoldingActivityLog, PortfolioIrrValue
from sqla_seqreserve.testing import record_statements

CHECK = 6
"""The number of statements of a check: four queries, the last inside a savepoint."""


class Elsewhere(DeclarativeBase):
    """Models whose tables the portfolio's database does not have."""


class Nowhere(Elsewhere):
    __tablename__ = "nowhere"
    id: Mapped[int] = mapped_column(Integer, Sequence("nowhere_seq"), primary_key=True)


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(HoldingActivityLog)) or 0


def gap(engine: Engine) -> int:
    with Session(engine) as session:
        return HoldingActivityLog.sequence_health(session).gap


@pytest.mark.parametrize("classes", [None, [HoldingActivityLog], [Base]])
def test_raise_refuses_before_anything_is_written(
    production_engine: Engine, classes: list[type] | None
) -> None:
    """on_drift="raise" sends only the check, and the error names the sequence, the table, the gap
    and the remedy.
    """
    factory = factory_of(production_engine, classes=classes, on_drift="raise")
    before = rows(production_engine)
    with record_statements(production_engine) as statements, factory() as session:
        item = activity()
        session.add(item)
        with pytest.raises(SequenceDriftError) as refused:
            session.flush()
        message = str(refused.value)
        assert (
            "holding_activity_log_id_seq hands out 1 next, and holding_activity_log.id already "
            "reaches 2248: 2248 ids behind"
        ) in message
        assert "repair_sequences()" in message
        assert ("portfolio_funds_id_seq" in message) == (classes != [HoldingActivityLog])
        # The first flush of an engine sends one more, which asks what server it is.
        assert len(statements) == CHECK + 1
        assert item.id is None
        with pytest.raises(PendingRollbackError):
            session.scalar(select(1))
        session.rollback()
        assert item not in session
    assert rows(production_engine) == before


def test_raise_asks_again_until_it_is_repaired(production_engine: Engine) -> None:
    """With on_drift="raise" flushes are refused until a repair; after that flushes send no
    check.
    """
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="raise")
    for _ in range(2):
        with pytest.raises(SequenceDriftError):
            save(factory)
    with Session(production_engine) as session:
        repair_sequences(session, HoldingActivityLog)
    assert save(factory) == [2249]
    with record_statements(production_engine) as statements:
        assert save(factory) == [2250]
    assert not any("pg_sequence" in statement.sql for statement in statements)


def test_warn_warns_once_an_engine_and_the_incident_takes_its_course(
    production_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """on_drift="warn" gives one warning and one log record per engine; 643 inserts succeed, and the
    644th collides.
    """
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="warn")
    with (
        caplog.at_level(logging.WARNING, "sqla_seqreserve"),
        pytest.warns(SequenceDriftWarning, match="2248 ids behind"),
    ):
        assert save(factory, 643) == list(range(1, 644))
    # A second warning would raise an error here.
    with caplog.at_level(logging.WARNING, "sqla_seqreserve"), pytest.raises(IntegrityError):
        save(factory)
    (record,) = caplog.records
    assert record.largest_gap == 2248


def test_repair_mends_in_the_session_s_transaction(production_engine: Engine) -> None:
    """on_drift="repair" moves the sequences of all enrolled classes beyond their tables, and new
    objects get ids beyond them.
    """
    factory = factory_of(production_engine, on_drift="repair")
    assert save(factory, 3) == [2249, 2250, 2251]
    with production_engine.connect() as connection:
        report = check_sequences(connection, Base)
    assert report.healthy
    assert {entry.table: entry.next_value for entry in report.sequences} == {
        **dict.fromkeys(Base.metadata.tables, 1),
        **{table: ids.last + 1 for table, ids in IMPORTED.items()},
        "holding_activity_log": 2252,
    }


def test_a_repair_leaves_other_classes_alone(production_engine: Engine) -> None:
    """on_drift="repair" does not move sequences of classes that are not enrolled."""
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="repair")
    assert save(factory) == [2249]
    with production_engine.connect() as connection:
        behind = {entry.table for entry in check_sequences(connection, Base).behind}
    assert behind == set(IMPORTED) - {"holding_activity_log"}


def test_a_repair_outlives_the_transaction_that_made_it(production_engine: Engine) -> None:
    """A rollback undoes the rows but not the repair, and the engine is not checked again."""
    factory = factory_of(production_engine, on_drift="repair")
    with factory() as session:
        session.add(activity())
        session.flush()
        session.rollback()
    assert gap(production_engine) == 0
    assert save(factory) == [2250]


def test_ignore_asks_nothing(production_engine: Engine) -> None:
    """on_drift="ignore", the default, sends no check and does not move the sequence."""
    factory = factory_of(production_engine)
    with record_statements(production_engine) as statements:
        assert save(factory) == [1]
    assert not any("SAVEPOINT" in statement.sql for statement in statements)
    assert gap(production_engine) == 2247


@pytest.mark.parametrize("on_drift", ["warn", "raise", "repair"])
def test_a_healthy_engine_is_asked_once(portfolio_url: str, on_drift: str) -> None:
    """On a healthy engine only the first flush sends the check's statements."""

    def counts(setting: str) -> list[int]:
        engine = create_engine(portfolio_url)
        factory = factory_of(engine, on_drift=setting)
        found = []
        for _ in range(3):
            with record_statements(engine) as statements, factory.begin() as session:
                session.add(PortfolioIrrValue(date=datetime.now(UTC).date(), irr_result=1))
                # Refused because it has no portfolio, but only after the check.
                with pytest.raises(IntegrityError):
                    session.flush()
                session.rollback()
            found.append(len(statements))
        # Other sessions of the same engine with the same setting do not check again.
        with record_statements(engine) as statements, Session(engine) as session:
            register(session, on_drift=setting)
            session.add(PortfolioIrrValue(date=datetime.now(UTC).date(), irr_result=1))
            with pytest.raises(IntegrityError):
                session.flush()
        found.append(len(statements))
        engine.dispose()
        return found

    first, *later = counts("ignore")
    # One more: the question what server it is, which a flush of one object otherwise does not ask.
    assert counts(on_drift) == [first + CHECK + 1, *later]


def test_registering_asks_nothing(production_engine: Engine) -> None:
    """Neither register() nor a flush without an INSERT sends the check."""
    with record_statements(production_engine) as statements:
        factory = factory_of(production_engine, on_drift="raise")
        with factory() as session:
            session.flush()
        assert statements == []
        with factory() as session:
            item = session.get_one(HoldingActivityLog, 644)
            item.activity_type = "Investment"
            session.commit()
    assert [statement.sql.split()[0] for statement in statements] == ["SELECT", "UPDATE"]


def test_the_mode_off_asks_nothing(production_engine: Engine) -> None:
    """With mode "off" on_drift sends no check."""
    factory = factory_of(production_engine, mode="off", on_drift="raise")
    assert save(factory) == [1]


def test_classes_without_a_table_are_passed_over(production_engine: Engine) -> None:
    """The check skips classes whose tables are not in the database."""
    factory = factory_of(
        production_engine, classes=[Elsewhere, PortfolioIrrValue, Base], on_drift="repair"
    )
    assert save(factory) == [2249]


def test_classes_bound_elsewhere_are_not_looked_for_here(
    production_engine: Engine, engine: Engine
) -> None:
    """A session with several binds checks each class in its own database."""
    with engine.begin() as connection:
        Elsewhere.metadata.create_all(connection)
        connection.execute(text("INSERT INTO nowhere VALUES (20)"))
    with Session(production_engine, binds={Nowhere: engine}) as session:
        register(
            session, classes=[Nowhere, PortfolioIrrValue, HoldingActivityLog], on_drift="raise"
        )
        session.add(Nowhere())
        with pytest.raises(SequenceDriftError, match="20 ids behind") as refused:
            session.flush()
        assert "holding_activity_log" not in str(refused.value)
        session.rollback()
        session.add(activity())
        with pytest.raises(SequenceDriftError, match="2248 ids behind") as refused:
            session.flush()
        assert "nowhere" not in str(refused.value)


def test_each_schema_of_a_translation_is_checked(engine: Engine) -> None:
    """With schema_translate_map the tables of each schema are checked, because tenants share only
    the engine.
    """
    with engine.begin() as connection:
        for tenant, top in (("good", 0), ("bad", 7)):
            connection.execute(text(f"CREATE SCHEMA {tenant}"))
            translated = {None: tenant}
            Elsewhere.metadata.create_all(
                connection.execution_options(schema_translate_map=translated)
            )
            if top:
                connection.execute(text(f"INSERT INTO {tenant}.nowhere VALUES ({top})"))
    factory = factory_of(engine, classes=[Nowhere], on_drift="raise")
    for tenant in ("good", "bad", "good"):
        bind = engine.execution_options(schema_translate_map={None: tenant})
        with factory(bind=bind) as session:
            session.add(Nowhere())
            if tenant == "good":
                session.commit()
            else:
                with pytest.raises(SequenceDriftError, match=r"bad\.nowhere"):
                    session.commit()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "AUTOCOMMIT"])
def test_a_repair_that_is_not_possible_is_said(production_engine: Engine, isolation: str) -> None:
    """If the transaction cannot see the newest ids or hold locks, the repair is impossible and the
    flush is refused.
    """
    factory = factory_of(
        production_engine.execution_options(isolation_level=isolation),
        classes=[HoldingActivityLog],
        on_drift="repair",
    )
    before = rows(production_engine)
    with pytest.raises(SequenceDriftError, match="2248 ids behind") as refused:
        save(factory)
    assert isinstance(refused.value.__cause__, ConfigurationError)
    assert (rows(production_engine), gap(production_engine)) == (before, 2248)


@pytest.fixture
def blocker(production_engine: Engine) -> Iterator[None]:
    """Another session, whose lock makes a repair and writers of the table wait."""
    with production_engine.connect() as connection:
        connection.execute(text("LOCK TABLE holding_activity_log IN SHARE ROW EXCLUSIVE MODE"))
        yield


def test_a_repair_that_gets_no_lock_is_said(production_engine: Engine, blocker: None) -> None:
    """If the repair gets no lock, the flush is refused with the lock's error as its cause, and can
    be tried again.
    """
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="repair")
    with pytest.raises(SequenceDriftError, match="2248 ids behind") as refused:
        save(factory)
    assert isinstance(refused.value.__cause__, LockTimeoutError)


def test_what_cannot_be_repaired_is_said(production_engine: Engine) -> None:
    """If an id at the end of its type leaves no room for a repair, the flush is refused with that
    reason.
    """
    with production_engine.begin() as connection:
        connection.execute(
            text("UPDATE holding_activity_log SET id = 9223372036854775807 WHERE id = 644")
        )
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="repair")
    for _ in range(2):
        with pytest.raises(SequenceDriftError, match="no value that"):
            save(factory)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_async_sessions_are_guarded_too(production_url: str, driver: str) -> None:
    """on_drift="raise", "warn" and "repair" work on asynchronous engines of psycopg and asyncpg."""
    engine = create_async_engine(production_url.replace("+psycopg", f"+{driver}"))
    factory = async_sessionmaker(engine)
    try:
        register(factory, classes=[HoldingActivityLog], on_drift="raise")
        async with factory() as session:
            session.add(activity())
            with pytest.raises(SequenceDriftError, match="2248 ids behind"):
                await session.commit()
        register(factory, classes=[HoldingActivityLog], on_drift="warn")
        async with factory() as session:
            session.add(activity())
            with pytest.warns(SequenceDriftWarning, match="2248 ids behind"):
                await session.commit()
        register(factory, classes=[HoldingActivityLog], on_drift="repair")
        async with factory() as session:
            item = activity()
            session.add(item)
            await session.commit()
            assert await session.run_sync(lambda _: item.id) == 2249
    finally:
        await engine.dispose()


def test_registering_again_changes_the_setting(production_engine: Engine) -> None:
    """Registering again replaces on_drift: its default switches the check off."""
    factory = factory_of(production_engine, classes=[HoldingActivityLog], on_drift="raise")
    with pytest.raises(SequenceDriftError):
        save(factory)
    register(factory, classes=[HoldingActivityLog])
    assert save(factory) == [1]


def test_an_unknown_setting_is_refused(production_engine: Engine) -> None:
    """An unknown on_drift is refused with the list of settings, and the registration stays
    unchanged.
    """
    factory = factory_of(production_engine)
    with pytest.raises(
        ConfigurationError, match="'ignore', 'warn', 'raise', 'repair', found 'mend'"
    ):
        register(factory, on_drift="mend")  # type: ignore[arg-type]  # what the test is about
