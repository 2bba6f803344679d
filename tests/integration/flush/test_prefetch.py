"""``register(..., prefetch=n)``: ids kept ahead with the database connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.run_names import of_this_run
from fixtures.shop import Base, Customer, Order, Tag
from sqlalchemy import Engine, create_engine, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.embedded import EmbeddedServer
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import record_statements


@pytest.fixture(params=["by search_path", "by schema", "on psycopg2"])
def target(shop: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The shop's tables, found by ``search_path`` or by a schema that is spelt, on each driver."""
    if request.param == "by search_path":
        if not reports_search_path(shop):
            pytest.skip("this server does not report search_path: PostgreSQL 18 is the first")
        yield shop
    elif request.param == "on psycopg2":
        engine = create_engine(shop.url.set(drivername="postgresql+psycopg2"))
        yield engine.execution_options(schema_translate_map={None: "public"})
        engine.dispose()
    else:
        yield shop.execution_options(schema_translate_map={None: "public"})


def reports_search_path(engine: Engine) -> bool:
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        return driver.info.parameter_status("search_path") is not None


def save(engine: Engine, *words: str, prefetch: int = 10, **settings: Any) -> tuple[list[int], int]:
    """Save tags in a transaction of their own, with keys first, for one INSERT by itself would
    bring them back: their ids, and the statements that asked for ids.
    """
    with Session(engine) as session, record_statements(engine) as statements:
        register(session, prefetch=prefetch, **{"reserve": "always", **settings})
        tags = [Tag(word=word) for word in words]
        session.add_all(tags)
        session.flush()
        ids = [tag.id for tag in tags]
        session.commit()
    return ids, sum("generate_series" in statement.sql for statement in statements)


def test_the_next_flushes_ask_for_no_ids(target: Engine) -> None:
    """One reservation supplies several flushes; when the kept ids no longer suffice, the next one
    refills them.
    """
    found = [save(target, "a") for _ in range(12)]
    assert [asked for _, asked in found] == [1] + [0] * 10 + [1]
    ids = [number for numbers, _ in found for number in numbers]
    assert ids == sorted(set(ids))
    assert len(ids) == 12


def test_ids_follow_the_order_of_add_across_what_is_kept(target: Engine) -> None:
    """A flush that needs more ids than are kept assigns the kept ones first."""
    save(target, "a", prefetch=3)
    ids, asked = save(target, *"abcde", prefetch=3)
    assert asked == 1
    assert ids == sorted(set(ids))
    again, asked = save(target, *"abc", prefetch=3)
    assert asked == 0
    assert ids[-1] < again[0]
    assert again == sorted(set(again))


def test_copy_takes_what_is_kept_and_looks_at_the_table(target: Engine) -> None:
    """Rows that COPY writes need a reservation, because it compares the table; kept ids are used
    first and none is lost.
    """
    [first], _ = save(target, "a", prefetch=5)
    ids, asked = save(target, *("b" for _ in range(50)), prefetch=5, copy_min_rows=1)
    assert asked == 1
    assert ids == sorted(set(ids))
    assert first < ids[0]
    with target.connect() as connection:
        taken = connection.scalar(text("SELECT last_value FROM public.tag_id_seq"))
    assert taken == 1 + 5 + 50


def test_one_statement_is_numbered_by_the_server(target: Engine) -> None:
    """If one INSERT returns all keys, no ids are kept ahead, because that would gain nothing."""
    assert [save(target, "a", reserve="auto")[1] for _ in range(3)] == [0, 0, 0]


def test_none_are_kept_by_default(target: Engine) -> None:
    """Without prefetch each flush reserves what it needs, and nothing more."""
    found = [save(target, "a", prefetch=0) for _ in range(3)]
    assert [asked for _, asked in found] == [1, 1, 1]
    with target.connect() as connection:
        assert connection.scalar(text("SELECT last_value FROM public.tag_id_seq")) == 3


def test_a_server_that_keeps_search_path_to_itself(shop: Engine) -> None:
    """If the server does not report search_path, no ids are kept for a table without a schema."""
    expected = [1, 0, 0] if reports_search_path(shop) else [1, 1, 1]
    assert [save(shop, "a")[1] for _ in range(3)] == expected


def test_another_search_path_has_ids_of_its_own(shop: Engine) -> None:
    """After a change of search_path a connection uses the other schema's sequence."""
    if not reports_search_path(shop):
        pytest.skip("this server does not report search_path: PostgreSQL 18 is the first")
    with shop.begin() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS other"))
        Base.metadata.create_all(connection.execution_options(schema_translate_map={None: "other"}))
    with Session(shop) as session:
        register(session, prefetch=10, reserve="always")
        taken: dict[str, list[int]] = {"public": [], "other": []}
        for path in ("public", "other", "public", "other"):
            session.execute(text(f"SET LOCAL search_path TO {path}"))
            tag = Tag(word=path)
            session.add(tag)
            session.flush()
            taken[path].append(tag.id)
        session.commit()
        for path, ids in taken.items():
            stored = text(f"SELECT id FROM {path}.tag ORDER BY id")  # ours
            assert list(session.scalars(stored)) == ids
            assert ids[0] == 1
            last = text(f"SELECT last_value FROM {path}.tag_id_seq")
            assert 1 < ids[1] <= session.scalar(last)
    assert save(shop, "a")[0] > taken["public"][1:]
    with shop.begin() as connection:
        connection.execute(text("DROP SCHEMA other CASCADE"))


def test_another_database_has_ids_of_its_own(shop: Engine, postgres_server: EmbeddedServer) -> None:
    """One factory on two databases keeps their ids apart, because ids are kept with the
    connection.
    """
    url = postgres_server.create_database(of_this_run("second_shop"))
    second = create_engine(url)
    Base.metadata.create_all(second)
    try:
        with second.begin() as connection:
            connection.execute(text("SELECT setval('tag_id_seq', 1000)"))
        maker = sessionmaker()
        register(maker, prefetch=20, reserve="always")
        ids: dict[Engine, list[int]] = {shop: [], second: []}
        for _ in range(3):
            for engine, taken in ids.items():
                with maker(bind=engine) as session:
                    tag = Tag(word="a")
                    session.add(tag)
                    session.flush()
                    taken.append(tag.id)
                    session.commit()
        assert all(number > 1000 for number in ids[second])
        assert all(number <= 21 for number in ids[shop])
    finally:
        second.dispose()
        postgres_server.drop_database(of_this_run("second_shop"))


def test_a_key_that_was_altered_is_looked_at_when_ids_are_fetched(target: Engine) -> None:
    """Kept ids are discarded together with the remembered facts of their key."""
    save(target, "a", prefetch=3)
    with target.begin() as connection:
        connection.execute(text("ALTER TABLE public.tag ALTER id TYPE bigint"))
        connection.execute(text("SELECT setval('public.tag_id_seq', 500)"))
    try:
        ids, _ = save(target, *("b" for _ in range(20)), prefetch=3, copy_min_rows=1)
        assert ids == sorted(set(ids))
        assert ids[0] > 500
    finally:
        with target.begin() as connection:
            connection.execute(text("ALTER TABLE public.tag ALTER id TYPE integer"))


def test_a_class_of_each_kind_in_one_flush(target: Engine) -> None:
    """If a flush lacks ids for one class, it does not fetch ids for another that has enough."""
    with Session(target) as session:
        register(session, prefetch=4, reserve="always")
        session.add(Tag(word="a"))
        session.flush()
        with record_statements(target) as statements:
            session.add_all([Tag(word="b"), Customer(email="c", orders=[Order(number=1)])])
            session.flush()
        [asking] = [statement for statement in statements if "generate_series" in statement.sql]
        assert [value for name, value in asking.parameters.items() if name.startswith("count")] in (
            [0, 5, 5],
            [5, 0, 5],
            [5, 5, 0],
        )
        assert session.scalar(select(Order.customer_id)) == session.scalar(select(Customer.id))


def test_threads_share_no_id(shop: Engine) -> None:
    """Sessions of many threads on one factory, beside plain INSERTs, get no id twice and lose no
    row.
    """
    engine = create_engine(shop.url, pool_size=8)
    maker = sessionmaker(engine)
    reports: list[FlushReport] = []
    register(maker, prefetch=7, reserve="always").on_flush(reports.append)
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(40):
                if number % 4 == 0:
                    with engine.begin() as connection:
                        connection.execute(text("INSERT INTO tag (word) VALUES ('plain')"))
                else:
                    with maker() as session:
                        session.add_all([Tag(word="ours") for _ in range(1 + turn % 3)])
                        if turn % 5 == 4:
                            session.flush()
                            session.rollback()
                        else:
                            session.commit()
        except BaseException as error:  # to be raised where it is seen
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert not failures
    with shop.connect() as connection:
        rows, distinct = connection.execute(
            text("SELECT count(*), count(DISTINCT id) FROM tag")
        ).one()
    turns = [turn for turn in range(40) if turn % 5 != 4]
    assert rows == distinct == 2 * 40 + 6 * sum(1 + turn % 3 for turn in turns)


async def test_async_keeps_ids_too(shop: Engine) -> None:
    """Connections of the async driver keep ids like the others."""
    engine = create_async_engine(
        shop.url, execution_options={"schema_translate_map": {None: "public"}}
    )
    try:
        asked = []
        for _ in range(3):
            async with AsyncSession(engine) as session:
                register(session, prefetch=5, reserve="always")
                with record_statements(engine) as statements:
                    session.add(Tag(word="a"))
                    await session.commit()
            asked.append(sum("generate_series" in statement.sql for statement in statements))
        assert asked == [1, 0, 0]
    finally:
        await engine.dispose()


def test_a_flush_that_fails_loses_its_ids_only(target: Engine) -> None:
    """After a rollback the ids that are still kept can be used."""
    save(target, "a")
    with Session(target) as session:
        register(session, prefetch=10, reserve="always")
        session.add(Tag(word="x" * 21))
        with pytest.raises(Exception, match="too long"):
            session.flush()
        session.rollback()
        [tag] = [Tag(word="b")]
        session.add(tag)
        session.commit()
        assert inspect(tag).persistent
    assert save(target, "c")[1] == 0


@pytest.mark.parametrize("wrong", [-1, 2.5, "3", True, None])
def test_a_number_that_is_none_is_refused(wrong: Any) -> None:
    """A wrong value of prefetch is refused with what was expected and what was found."""
    with pytest.raises(ConfigurationError, match="prefetch must be an int of 0 or more, found"):
        register(Session(), prefetch=wrong)


def test_a_duplicate_key_throws_kept_ids_away(target: Engine) -> None:
    """A repair in another process is noticed only when a kept id is refused; then all kept ids are
    discarded.
    """
    save(target, "a", prefetch=20)
    with target.begin() as connection:
        # As another process would: rows with ids of their own, then the sequence moved past them.
        rows = "INSERT INTO public.tag (id, word) SELECT g, 'i' FROM generate_series(2, 40) g"
        connection.execute(text(rows))
        connection.execute(text("SELECT setval('public.tag_id_seq', 40)"))
    with pytest.raises(IntegrityError):
        save(target, "b", prefetch=20)
    [found], asked = save(target, "c", prefetch=20)
    assert asked == 1
    assert found > 40


@pytest.mark.parametrize("rounds", [3])
def test_an_engine_says_once_that_nothing_is_kept(
    shop: Engine, caplog: pytest.LogCaptureFixture, rounds: int
) -> None:
    """If the server does not report search_path, one WARNING per engine names the remedy."""
    for _ in range(rounds):
        save(shop, "a")
    told = [record for record in caplog.records if record.name == "sqla_seqreserve.prefetch"]
    assert len(told) == (0 if reports_search_path(shop) else 1)
    assert all("Name the schema" in record.getMessage() for record in told)
