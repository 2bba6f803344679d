"""Features beside the flush work on each driver: drift, kept ids, health and repair, a URL of
several hosts; and the round trips of a COPY.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from fixtures.run_names import of_this_run
from fixtures.sides import ASYNC_DRIVERS, Side, Way, prepared
from sqlalchemy import Enum, Identity, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import check_sequences, repair_sequences
from sqla_seqreserve.embedded import EmbeddedServer
from sqla_seqreserve.errors import SequenceDriftError, SequenceDriftWarning
from sqla_seqreserve.testing import record_statements, round_trips

DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
IMPORT = ("INSERT INTO public.item (id, name) OVERRIDING SYSTEM VALUE VALUES (40, 'imported')",)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    __table_args__ = {"schema": "public"}  # declarative's own name
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]


def save(side: Side) -> list[int]:
    """Save the rows in the side's way in a transaction of their own, and return their ids."""

    def saving(session: Session) -> list[int]:
        keys = side.write(session, Item, [{"name": f"n{i}"} for i in range(side.way.rows)])
        session.commit()
        return keys

    return side.run(saving)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["price_range", "interval"])
def test_an_enum_with_the_name_of_another_type(
    twin_urls: tuple[str, str], driver: str, name: str
) -> None:
    """COPY writes the labels of an enum, whatever its type is called."""

    class Own(DeclarativeBase):
        pass

    class Offer(Own):
        __tablename__ = "offer"
        id: Mapped[int] = mapped_column(Identity(), primary_key=True)
        level: Mapped[str] = mapped_column(Enum("low", "high", name=name, schema="public"))

    def saving(session: Session) -> None:
        session.add_all([Offer(level="low"), Offer(level="high")])
        session.commit()

    way = Way("copy", {"copy_min_rows": 1}, rows=2)
    with prepared(twin_urls[1], way, Own, (), registered=True, driver=driver) as side:
        side.run(saving)
        assert side.rows("SELECT level::text FROM offer ORDER BY id") == [("low",), ("high",)]
        assert side.writers() == {("copy", None)}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("on_drift", ["warn", "raise", "repair"])
def test_drift(twin_urls: tuple[str, str], driver: str, on_drift: str) -> None:
    """The first save of an engine warns of a sequence behind its table, refuses to write, or
    repairs it.
    """
    way = Way(on_drift, {"on_drift": on_drift, "copy_min_rows": 1}, rows=2)
    with prepared(twin_urls[1], way, Base, IMPORT, registered=True, driver=driver) as side:
        if on_drift == "warn":
            with pytest.warns(SequenceDriftWarning, match="40 ids behind"):
                assert save(side) == [1, 2]
            assert save(side) == [3, 4]
        elif on_drift == "raise":
            for _ in range(2):
                with pytest.raises(SequenceDriftError, match="40 ids behind"):
                    save(side)
            assert side.rows("SELECT id FROM item") == [(40,)]
        else:
            assert save(side) == [41, 42]
            assert save(side) == [43, 44]


@pytest.mark.parametrize("driver", DRIVERS)
def test_health_and_repair(twin_urls: tuple[str, str], driver: str) -> None:
    """A session of any driver detects the gap, and repairs it."""
    way = Way("copy", {"copy_min_rows": 1}, rows=2)
    with prepared(twin_urls[1], way, Base, IMPORT, registered=True, driver=driver) as side:

        def mend(session: Session) -> Any:
            before = check_sequences(session, Base)
            told = repair_sequences(session, Base, dry_run=True)
            still = check_sequences(session, Base)
            repair_sequences(session, Base)
            session.commit()
            after = check_sequences(session, Base)
            return before.healthy, len(told.to_dict()["results"]), still.healthy, after.healthy

        assert side.run(mend) == (False, 1, False, True)
        assert save(side) == [41, 42]


@pytest.mark.parametrize("driver", DRIVERS)
def test_ids_kept_ahead(twin_urls: tuple[str, str], driver: str) -> None:
    """One reservation supplies the following saves until a repair invalidates the kept ids;
    asyncpg, which needs a round trip to compare a table, keeps none.
    """
    way = Way("prefetch", {"prefetch": 10, "reserve": "always"}, rows=2)
    with prepared(twin_urls[1], way, Base, (), registered=True, driver=driver) as side:
        save(side)
        with record_statements(side.engine) as statements:
            ids = save(side) + save(side)
        asked = [each for each in statements if "generate_series" in each.sql]
        assert len(asked) == (2 if driver == "asyncpg" else 0)
        side.execute(*IMPORT)

        def mend(session: Session) -> None:
            repair_sequences(session, Base)
            session.commit()

        side.run(mend)
        later = save(side)
    assert ids == sorted(set(ids))
    assert later == [41, 42]


@pytest.mark.parametrize(("driver", "expected"), [("psycopg", 4), ("psycopg2", 5), ("asyncpg", 4)])
def test_a_copy_on_the_wire(twin_urls: tuple[str, str], driver: str, expected: int) -> None:
    """The round trips of a COPY with BEGIN, reservation and COMMIT: on psycopg BEGIN travels along,
    psycopg and psycopg2 wait for the server's "go on", asyncpg does neither.
    """
    way = Way("copy", {"copy_min_rows": 1}, rows=300)
    with (
        round_trips(twin_urls[1]) as wire,
        prepared(twin_urls[1], way, Base, (), registered=True, driver=driver),
    ):
        side = Side(wire.url, way, registered=True, driver=driver)
        for _ in range(2):
            save(side)

        def saving(session: Session) -> Any:
            session.add_all([Item(name="n") for _ in range(way.rows)])
            with wire.counting() as count:
                session.commit()
            return count

        count = side.run(saving)
        side.close()
    assert side.writers() == {("copy", None)}
    assert count.round_trips == expected, count


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", [{}, {"copy_min_rows": 1}], ids=["few", "copy"])
def test_a_connection_detached_from_the_pool(
    twin_urls: tuple[str, str], driver: str, settings: dict[str, Any]
) -> None:
    """A connection that was detached from the pool writes like any other."""
    way = Way("detached", settings, rows=3)
    with prepared(twin_urls[1], way, Base, (), registered=True, driver=driver) as side:

        def saving(session: Session) -> None:
            session.connection().detach()
            session.add_all([Item(name="n") for _ in range(way.rows)])
            session.commit()

        side.run(saving)
        assert side.rows("SELECT count(*) FROM item") == [(3,)]
        assert {writer for writer, _ in side.writers()} == {"copy" if settings else "insert"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_url_of_several_hosts(postgres_server: EmbeddedServer, driver: str) -> None:
    """With a URL of several hosts rows are saved by COPY to the first one that answers."""
    name = of_this_run(f"hosts_{driver}")
    url = make_url(postgres_server.create_database(name))
    engine = create_engine(url)
    host, port = url.host or url.query.get("host"), url.port or url.query.get("port")
    if isinstance(host, str) and host.startswith("/"):
        # Of a socket's folder asyncpg takes no port beside it in such a URL.
        with round_trips(url) as wire, contextlib.ExitStack() as undone:
            undone.callback(postgres_server.drop_database, name)
            undone.callback(engine.dispose)
            _save_to_several(engine, wire.url, wire.url.host, wire.url.port, driver)
    else:
        _save_to_several(engine, url, host, port, driver)
        engine.dispose()
        postgres_server.drop_database(name)


def _save_to_several(engine: Any, url: Any, host: Any, port: Any, driver: str) -> None:
    assert (driver in ASYNC_DRIVERS) == (driver == "asyncpg")
    Base.metadata.create_all(engine)
    # Nobody listens on the first.
    query = {**url.query, "host": ["127.0.0.1:1", f"{host}:{port}"]}
    several = url.set(host=None, port=None, query=query)
    side = Side(several, Way("copy", {"copy_min_rows": 1}, rows=20), registered=True, driver=driver)
    try:
        assert len(set(save(side))) == 20
        assert side.writers() == {("copy", None)}
    finally:
        side.close()
