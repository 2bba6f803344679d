"""The three modes write the same rows; only the statements differ, which are counted here."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fixtures.shop import Base, Customer, Order, Tag, customers
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushEntry, FlushReport, Registration, register
from sqla_seqreserve.registration import Mode, Reserve
from sqla_seqreserve.testing import record_statements


def registered(session: Session, **settings: Any) -> tuple[Registration, list[FlushReport]]:
    reports: list[FlushReport] = []
    registration = register(session, **settings)
    registration.on_flush(reports.append)
    return registration, reports


def entries(report: FlushReport) -> dict[type[Any], FlushEntry]:
    found = {entry.model: entry for entry in report.entries}
    assert len(found) == len(report.entries)
    return found


def rows(engine: Engine) -> dict[str, list[Any]]:
    """All rows of the shop, without their times of creation."""
    with engine.connect() as connection:
        return {
            table.name: connection.execute(
                select(*(c for c in table.c if c.name != "created_at")).order_by(*table.primary_key)
            ).all()
            for table in Base.metadata.sorted_tables
        }


def attributes(item: object) -> dict[str, Any]:
    """The values of an object that need no query."""
    state = inspect(item)
    return {
        key: value
        for key, value in state.dict.items()
        if key in state.mapper.column_attrs and key != "created_at"
    }


def graph() -> list[Customer]:
    found = customers(12)
    tags = [Tag(word=f"tag {number}") for number in range(3)]
    for number, customer in enumerate(found):
        customer.tags = tags[: number % 4]
        customer.recruiter = found[number // 2] if number else None
    return found


def forget_tables(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE customer, orders, tag, tagged RESTART IDENTITY"))


def test_the_rows_and_objects_are_the_same(shop: Engine) -> None:
    """A graph of four tables, saved without us and in every mode: the same rows, keys included, and
    the same values in the same attributes of the objects.
    """
    outcomes = []
    settings: list[dict[str, Any] | None] = [
        None,
        {"mode": "off"},
        {"mode": "reserve"},
        {"mode": "bulk", "copy_min_rows": 1},
        {"mode": "bulk"},
        {"mode": "bulk", "copy_min_rows": 10_000},
    ]
    for chosen in settings:
        forget_tables(shop)
        with Session(shop, expire_on_commit=False) as session:
            if chosen is not None:
                register(session, **chosen)
            found = graph()
            session.add_all(found)
            session.flush()
            held = [
                (attributes(customer), [attributes(order) for order in customer.orders])
                for customer in found
            ]
            assert {type(order.created_at) for c in found for order in c.orders} != {type(None)}
            session.commit()
        outcomes.append((rows(shop), held))
    plain = outcomes[0]
    assert len(plain[0]["orders"]) == 24
    for chosen, outcome in zip(settings, outcomes, strict=True):
        assert outcome == plain, chosen


@pytest.mark.parametrize("mode", ["bulk", "reserve"])
def test_one_round_trip_reserves_for_the_whole_flush(shop: Engine, mode: Mode) -> None:
    """The ids of all classes of a flush come in one statement, sent before any row is written."""
    with Session(shop) as session:
        _, reports = registered(session, mode=mode, copy_min_rows=1)
        for _ in range(2):
            with record_statements(shop) as statements:
                session.add_all(
                    [
                        *(Tag(word="word") for _ in range(20)),
                        *(Customer(email=f"{n}@{_}", orders=[Order(number=1)]) for n in range(20)),
                    ]
                )
                session.flush()
            session.commit()
        first = [statement.sql.split()[0] for statement in statements]
        assert "nextval" in statements[0].sql
        assert sum("nextval" in statement.sql for statement in statements) == 1
        writes = {"bulk": "COPY", "reserve": "INSERT"}[mode]
        # Orders are written with their server defaults read back: at once by RETURNING, after COPY
        # by one query.
        extra = ["SELECT"] if mode == "bulk" else []
        assert Counter(first) == Counter(["WITH", writes, writes, writes, *extra])
        assert {cls: entry.reserved for cls, entry in entries(reports[1]).items()} == {
            Tag: 20,
            Customer: 20,
            Order: 20,
        }


def test_the_catalogue_is_read_once(shop: Engine) -> None:
    """The first flush of an engine reads the catalogue in one query, whatever the number of classes
    with sequences; no later one does.
    """
    counts = []
    for number in range(3):
        with Session(shop) as session, record_statements(shop) as statements:
            register(session, copy_min_rows=1)
            session.add_all([Tag(word="a"), Customer(email=str(number))])
            session.commit()
        counts.append(sum("pg_attribute" in s.sql and "unnest" in s.sql for s in statements))
    assert counts == [1, 0, 0]


@pytest.mark.parametrize("count", [1, 7, 5_000])
@pytest.mark.parametrize("reserve", ["auto", "always"])
def test_the_measured_default_divides(shop: Engine, count: int, reserve: Reserve) -> None:
    """Few rows go by one INSERT that numbers them, unless keys are asked for first; many go by
    COPY, with reserved keys.
    """
    with Session(shop) as session:
        registration, reports = registered(session, reserve=reserve)
        tags = [Tag(word=str(number)) for number in range(count)]
        session.add_all(tags)
        session.flush()
        [entry] = reports[0].entries
        if count == 5_000:
            assert (entry.writer, entry.reason) == ("copy", None)
        else:
            assert entry.writer == "insert"
            assert entry.reason == "few rows"
            [told] = registration.explain(shop, [Tag])
            assert count < (told.copy_from or 0)
        reserved = count if count == 5_000 or reserve == "always" else 0
        assert (entry.model, entry.rows, entry.reserved) == (Tag, count, reserved)
        assert entry.seconds > 0
        assert reports[0].rows == count
        ids = [tag.id for tag in tags]
        assert ids == sorted(set(ids))


def test_a_mode_holds_from_the_next_flush_on(shop: Engine) -> None:
    """Registration.mode is the feature flag: assigned between two flushes, it decides the
    second.
    """
    with Session(shop) as session:
        registration, reports = registered(session, copy_min_rows=1)
        for mode in ("bulk", "reserve", "off", "bulk"):
            registration.mode = mode  # type: ignore[assignment]  # a Mode
            assert registration.mode == mode
            session.add(Tag(word=mode))
            session.flush()
        found = [report.entries[0] for report in reports]
        assert [(entry.writer, entry.reserved, entry.reason) for entry in found] == [
            ("copy", 1, None),
            ("orm", 1, "mode is reserve"),
            ("orm", 0, "mode is off"),
            ("copy", 1, None),
        ]


def test_ids_follow_the_order_of_add(shop: Engine) -> None:
    """Ids follow the order of add(), not the order of construction or of the values."""
    for settings in ({"copy_min_rows": 1}, {"mode": "reserve"}, {}):
        with Session(shop) as session:
            register(session, **settings)  # type: ignore[arg-type]  # settings
            tags = [Tag(word=str(-number)) for number in range(50)]
            tags = tags[::-2] + tags[::2]
            session.add_all(tags)
            session.flush()
            ids = [tag.id for tag in tags]
            assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    "settings", [{"copy_min_rows": 1}, {"mode": "reserve"}, {"reserve": "always"}, {}]
)
def test_keys_that_are_set_stay(shop: Engine, settings: dict[str, Any]) -> None:
    """An object whose key the user set keeps it, even beside objects that get theirs, and costs no
    id.
    """
    with Session(shop) as session:
        _, reports = registered(session, **settings)
        tags = [Tag(id=9_000 + n if n % 3 == 0 else None, word=str(n)) for n in range(15)]
        session.add_all(tags)
        session.flush()
        assert [tag.id for tag in tags[::3]] == list(range(9_000, 9_015, 3))
        others = [tag.id for n, tag in enumerate(tags) if n % 3]
        assert others == sorted(set(others))
        assert max(others) < 9_000
        assert sum(entry.reserved for entry in reports[0].entries) == (10 if settings else 0)
        assert session.scalar(text("SELECT last_value FROM tag_id_seq")) == 10
        assert reports[0].rows == 15
        session.commit()
        assert dict(session.execute(select(Tag.word, Tag.id)).all()) == {  # type: ignore[arg-type]  # pairs
            tag.word: tag.id for tag in tags
        }


@pytest.mark.parametrize(
    "settings", [{"copy_min_rows": 1}, {"mode": "reserve"}, {"reserve": "always"}, {}]
)
def test_orphans_reserve_nothing(shop: Engine, settings: dict[str, Any]) -> None:
    """A pending object that lost its parent is not inserted, and takes no id from the sequence."""
    with Session(shop) as session:
        _, reports = registered(session, **settings)
        parent = Customer(email="a")
        session.add(parent)
        parent.orders = [Order(number=number) for number in range(20)]
        session.add_all(parent.orders)
        kept = parent.orders[:3]
        parent.orders = kept
        session.flush()
        assert entries(reports[0])[Order].reserved == (3 if settings else 0)
        assert session.scalar(text("SELECT last_value FROM orders_id_seq")) == kept[-1].id == 3
        assert len(session.new) == 0


def test_a_flush_without_inserts_sends_nothing_more(shop: Engine) -> None:
    """A flush of only updates and deletes reserves nothing but is reported; an empty flush is not
    reported.
    """
    with Session(shop) as session:
        _, reports = registered(session, copy_min_rows=1)
        tags = [Tag(word=str(number)) for number in range(3)]
        session.add_all(tags)
        session.flush()
        reports.clear()
        tags[0].word = "changed"
        session.delete(tags[1])
        with record_statements(shop) as statements:
            session.flush()
        assert [statement.sql.split()[0] for statement in statements] == ["UPDATE", "DELETE"]
        assert [(entry.kind, entry.rows, entry.reserved) for entry in reports[0].entries] == [
            ("update", 1, 0),
            ("delete", 1, 0),
        ]
        with record_statements(shop) as statements:
            session.flush()
        assert statements == []
        assert len(reports) == 1


def test_only_enrolled_classes_are_ours(shop: Engine) -> None:
    """The setting ``classes`` takes classes and bases, with their subclasses; SQLAlchemy writes all
    others.
    """
    for classes, ours in [
        ([Customer], {Customer}),
        ([Customer, Order], {Customer, Order}),
        ([Base], {Customer, Order, Tag}),
        ([], set()),
        (iter([Tag]), {Tag}),
    ]:
        forget_tables(shop)
        with Session(shop) as session:
            _, reports = registered(session, classes=classes, copy_min_rows=1)
            session.add_all([Tag(word="a"), *customers(3, 1)])
            session.flush()
            found = entries(reports[0])
            assert set(found) == {Customer, Order, Tag}
            for cls, entry in found.items():
                expected = ("copy", None) if cls in ours else ("orm", "the class is not enrolled")
                assert (entry.writer, entry.reason) == expected
                assert entry.reserved == (entry.rows if cls in ours else 0)


def test_a_reason_is_the_same_each_time(shop: Engine) -> None:
    """Equal flushes of few rows report the same reason, so that their reports can be added up, also
    if a trigger prevents COPY.
    """
    with shop.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
            )
        )
        connection.execute(
            text("CREATE TRIGGER same BEFORE INSERT ON tag FOR EACH ROW EXECUTE FUNCTION same()")
        )
    try:
        with Session(shop) as session:
            registration, reports = registered(session)
            for count in (1, 2, 3, 1):
                session.add_all([Tag(word="a") for _ in range(count)])
                session.commit()
            [told] = registration.explain(shop, [Tag])
            assert (told.path, told.copy_from) == ("orm", None)
            assert {report.entries[0].reason for report in reports} == {"few rows"}
    finally:
        with shop.begin() as connection:
            connection.execute(text("DROP FUNCTION same CASCADE"))


def test_what_is_set_during_a_flush_holds_from_the_next_one_on(shop: Engine) -> None:
    """A flush uses the settings with which it began; what register() sets meanwhile takes effect in
    the next one.
    """
    with Session(shop) as session:
        registration, reports = registered(session, copy_min_rows=1)
        later: list[FlushReport] = []

        @event.listens_for(session, "before_flush")
        def set_others(*_: Any) -> None:
            registration.mode = "off"
            registration.on_flush(later.append)
            register(session, mode="off", copy_min_rows=None)

        session.add_all([Tag(word=f"{number}") for number in range(12)])
        session.flush()
        assert [entry.writer for entry in reports[0].entries] == ["copy"]
        assert (registration.mode, later) == ("off", [])
        session.add(Tag(word="another"))
        session.flush()
        assert [entry.writer for entry in later[0].entries] == ["orm"]
