"""The engines and connections that explain() takes: what it reads there, and what it leaves."""

from __future__ import annotations

import pytest
from fixtures.shop import Customer, Order, Tag
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import aio, register
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import record_statements


def test_facts_are_read_anew_and_kept_where_they_hold(shop: Engine) -> None:
    """explain() notices at once what another session changed; if nothing changed, it costs no kept
    id.
    """
    factory = sessionmaker(shop)
    registration = register(factory, prefetch=20)
    with shop.begin() as connection:
        connection.execute(text("CREATE SCHEMA elsewhere CREATE TABLE tag (LIKE public.tag)"))
    named = shop.execution_options(schema_translate_map={None: "public"})
    try:
        ids = []
        for _ in range(3):
            assert registration.explain(named, [Tag])[0].path == "copy"
            with factory(bind=named) as session:
                tag = Tag(word="a")
                session.add(tag)
                session.commit()
                ids.append(tag.id)
        assert ids == [1, 2, 3]
        with shop.begin() as connection:
            connection.execute(
                text("CREATE RULE watched AS ON INSERT TO public.tag DO ALSO NOTHING")
            )
        [told] = registration.explain(named, [Tag])
        assert told.reason == "tag has a rule on INSERT"
    finally:
        with shop.begin() as connection:
            connection.execute(text("DROP RULE watched ON public.tag"))
            connection.execute(text("DROP SCHEMA elsewhere CASCADE"))


def test_no_transaction_is_left(shop: Engine) -> None:
    """explain() leaves no transaction on a connection that had none, and goes on in one that is
    open.
    """
    with shop.connect() as connection:
        register(Session()).explain(connection, [Tag])
        assert not connection.in_transaction()
        connection.execute(text("CREATE TEMP TABLE kept ()"))
        register(Session()).explain(connection, [Tag])
        assert connection.in_transaction()
        assert connection.scalar(text("SELECT to_regclass('kept')")) is not None


@pytest.mark.parametrize("wrong", ["async engine", "session", "URL"])
def test_what_is_no_bind_is_refused(shop: Engine, wrong: str) -> None:
    """If explain() gets no engine or connection, the error says what was expected, and names the
    twin for asynchronous applications.
    """
    binds = {
        "async engine": create_async_engine(shop.url),
        "session": Session(shop),
        "URL": shop.url,
    }
    with pytest.raises(ConfigurationError, match=r"takes an Engine or .*aio\.explain\(reg"):
        register(Session()).explain(binds[wrong])  # type: ignore[arg-type]  # the point of the test


async def test_the_twin_refuses_what_is_synchronous(shop: Engine) -> None:
    """aio.explain() says which function takes an engine that is not asynchronous."""
    with pytest.raises(ConfigurationError, match=r"registration\.explain\("):
        await aio.explain(register(Session()), shop)  # type: ignore[arg-type]  # as above


def test_it_only_reads(shop: Engine) -> None:
    """Explaining reads the catalogue and takes no id."""
    registration = register(Session())
    with record_statements(shop) as statements:
        registration.explain(shop, [Customer, Order, Tag])
    assert len(statements) == 1
    with shop.connect() as connection:
        assert connection.scalar(text("SELECT is_called FROM tag_id_seq")) is False


def test_another_database_is_said_by_name() -> None:
    """On SQLite explain() leaves every class to SQLAlchemy, and the reason names SQLite."""
    engine = create_engine("sqlite://")
    [found] = register(Session()).explain(engine, [Tag])
    engine.dispose()
    assert (found.path, found.sequence, found.reason) == ("orm", None, "the database is sqlite")


def test_a_distance_that_was_not_measured_is_not_said(shop: Engine) -> None:
    """Before the first flush explain() prints the round trip as "not measured yet", then the
    measured one.
    """
    factory = sessionmaker(shop)
    registration = register(factory)
    [before] = found = registration.explain(shop, [Tag])
    assert before.round_trip is None
    assert "round trip to the server: not measured yet, 0.3 ms is assumed" in str(found)
    with factory() as session:
        session.add(Tag(word="a"))
        session.commit()
    [after] = found = registration.explain(shop, [Tag])
    assert after.round_trip is not None
    assert 0 < after.round_trip < 10
    assert f"round trip to the server: {after.round_trip * 1000:.1f} ms" in str(found)
    asked = register(factory, copy_min_rows=10).explain(shop, [Tag])
    assert "round trip to the server" not in str(asked)
    assert "COMMIT: " in str(asked)
