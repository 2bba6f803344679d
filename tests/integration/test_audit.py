"""The audit log contains every event once, with its fields, and never a row's values."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, TypeDecorator, func, text, true
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import (
    _audit,
    assign_ids,
    bulk_insert,
    bulk_sync,
    bulk_upsert,
    check_sequences,
    register,
    repair_sequences,
    reserve_ids,
)
from sqla_seqreserve.cli._alerts import Alerts
from sqla_seqreserve.cli._database import Database
from sqla_seqreserve.cli._target import Target
from sqla_seqreserve.cli._watching import Watcher
from sqla_seqreserve.cli.watch import _Rounds
from sqla_seqreserve.errors import (
    InvalidCountError,
    InvalidRowsError,
    SequenceExhaustedError,
    UnmappedClassError,
)

SECRET = "s3cret-of-the-row"

WRITTEN = {"model", "kind", "rows", "reserved", "writer", "reason", "seconds"}
FIELDS = {
    "ids_reserved": {"model", "sequence", "count"},
    "rows_written": WRITTEN,
    "fallback": WRITTEN,
    "flushed": {"rows", "seconds"},
    "failed": {"error", "sqlstate"},
    "sequences_checked": {"sequences", "healthy", "unhealthy_sequences", "largest_gap"},
    "sequence_repair": {
        *("table", "column", "sequence", "action", "old_value", "new_value"),
        *("gap_fixed", "reason"),
    },
    "sequences_repaired": {"sequences", "sequences_repaired", "repair_completed", "dry_run"},
    "sequence_state_changed": {"subject", "before", "now", "alert"},
    "sequence_runs_out": {"sequence", "seconds"},
    "alert_sent": {"way", "code"},
    "alert_failed": {"way", "error", "code"},
}

STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName", "event"}


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    body: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str | None]


class Upper(TypeDecorator[str]):
    """A type with an SQL expression of its own, which COPY cannot send."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.upper(bindparam)


class Shout(Base):
    __tablename__ = "shout"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    body: Mapped[str] = mapped_column(Upper)


class Audit:
    """The records that were logged since the last call."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def __call__(self) -> list[tuple[str, str, str]]:
        """(event, logger below the package's, level) of each record; checks each record's
        fields.
        """
        records = [r for r in self.caplog.records if r.name.startswith("sqla_seqreserve")]
        self.caplog.clear()
        self.records: list[Any] = records
        for record in records:
            assert vars(record).keys() - STANDARD == FIELDS[record.event]
            assert SECRET not in record.getMessage() + repr(vars(record))
        return [(r.event, r.name.partition(".")[2], r.levelname) for r in self.records]


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Audit:
    caplog.set_level(logging.DEBUG, "sqla_seqreserve")
    return Audit(caplog)


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, reserve="always", copy_min_rows=10)
        yield session


def notes(count: int, start: int = 0) -> list[Note]:
    return [Note(body=f"{SECRET} {number}") for number in range(start, start + count)]


RESERVED = ("ids_reserved", "reservation", "INFO")
COPIED = ("rows_written", "flush", "INFO")
FLUSHED = ("flushed", "flush", "DEBUG")


def test_every_event_is_documented() -> None:
    """The table in the module's docstring lists exactly the events that these tests know."""
    documented = re.findall(r"^``(\w+)``", _audit.__doc__ or "", re.MULTILINE)
    assert set(documented) == set(FIELDS)


def test_a_flush_by_copy(session: Session, audit: Audit) -> None:
    """A flush by COPY logs one line for the reservation, one for the rows and one for the flush,
    with their numbers.
    """
    session.add_all(notes(20))
    session.flush()
    assert audit() == [RESERVED, COPIED, FLUSHED]
    reserved, written, flushed = audit.records
    assert (reserved.model, reserved.sequence, reserved.count) == ("Note", "public.note_id_seq", 20)
    assert (written.model, written.rows, written.reserved, written.writer, written.reason) == (
        "Note", 20, 20, "copy", None,
    )  # fmt: skip
    assert written.getMessage() == "copy wrote 20 rows of note"
    assert flushed.rows == 20
    assert flushed.seconds >= written.seconds > 0


def test_a_flush_of_few_rows_is_no_fallback(session: Session, audit: Audit) -> None:
    """Few rows that INSERT writes because it is faster are logged at DEBUG, not as a fallback."""
    session.add_all(notes(3))
    session.flush()
    assert audit() == [RESERVED, ("rows_written", "flush", "DEBUG"), FLUSHED]
    reason = "few rows: fewer than copy_min_rows"
    assert (audit.records[1].writer, audit.records[1].reason) == ("insert", reason)


def test_a_fallback_gives_its_reason(session: Session, audit: Audit) -> None:
    """Rows that COPY cannot write are logged separately from those that it wrote, with
    the reason.
    """
    expression = Note(body=func.upper(SECRET))
    session.add_all([*notes(20), expression])
    session.flush()
    assert audit() == [RESERVED, COPIED, ("fallback", "flush", "INFO"), FLUSHED]
    _, copied, fallback, flushed = audit.records
    assert (copied.rows, fallback.rows, fallback.writer, flushed.rows) == (20, 1, "orm", 21)
    assert "expression" in fallback.reason


def test_what_sqlalchemy_saves_itself_is_a_fallback(session: Session, audit: Audit) -> None:
    """A class that SQLAlchemy writes entirely is logged as a fallback, also in mode "reserve"."""
    register(session, mode="reserve")
    session.add_all(notes(20))
    session.flush()
    assert audit() == [RESERVED, ("fallback", "flush", "INFO"), FLUSHED]
    assert (audit.records[1].rows, audit.records[1].reason) == (20, "mode is reserve")


def test_a_flush_that_fails(session: Session, audit: Audit) -> None:
    """A failed flush logs the error's class and SQLSTATE, and nothing of the refused row."""
    session.add_all([*notes(20), *notes(1)])
    with pytest.raises(IntegrityError):
        session.flush()
    assert audit() == [RESERVED, ("failed", "flush", "INFO")]
    assert (audit.records[1].error, audit.records[1].sqlstate) == ("IntegrityError", "23505")


def test_changed_objects_are_an_event(session: Session, audit: Audit) -> None:
    """Many changed objects are logged as INFO, like rows that COPY wrote, and few as DEBUG; the
    record's kind is "update" or "delete".
    """
    found = notes(20)
    session.add_all(found)
    session.flush()
    audit()
    for number, note in enumerate(found):
        note.title = f"{SECRET} changed {number}"
    session.flush()
    assert audit() == [COPIED, FLUSHED]
    assert (audit.records[0].kind, audit.records[0].rows) == ("update", 20)
    session.delete(found[0])
    session.flush()
    assert audit() == [("rows_written", "flush", "DEBUG"), FLUSHED]
    assert (audit.records[0].kind, audit.records[0].writer) == ("delete", "insert")


def test_a_flush_that_writes_nothing_is_no_event(session: Session, audit: Audit) -> None:
    """A flush of an unchanged object writes and logs nothing."""
    (note,) = notes(1)
    session.add(note)
    session.flush()
    audit()
    note.body = str(note.body)
    session.flush()
    assert audit() == []


def test_reservations_outside_of_a_flush(session: Session, audit: Audit) -> None:
    """reserve_ids and assign_ids log each sequence once, and nothing if no ids were taken."""
    reserve_ids(session, {Note: 7})
    assign_ids(session, notes(4))
    reserve_ids(session, Note, 0)
    assert audit() == [RESERVED, RESERVED]
    assert [record.count for record in audit.records] == [7, 4]


def test_reservations_that_fail(session: Session, audit: Audit) -> None:
    """A failed reservation logs its error's class, without the wrong argument."""
    with pytest.raises(InvalidCountError):
        reserve_ids(session, Note, SECRET)  # type: ignore[call-overload]  # the point of the test
    session.execute(text("ALTER SEQUENCE note_id_seq MAXVALUE 5"))
    with pytest.raises(SequenceExhaustedError):
        reserve_ids(session, Note, 6)
    session.rollback()
    with pytest.raises(UnmappedClassError):
        assign_ids(session, [SECRET])
    assert audit() == [("failed", "reservation", "INFO")] * 3
    assert [record.error for record in audit.records] == [
        "InvalidCountError", "SequenceExhaustedError", "UnmappedClassError",
    ]  # fmt: skip


def test_bulk_inserts(session: Session, audit: Audit) -> None:
    """bulk_insert logs the rows of COPY, and those that the database numbered without a reserved
    id.
    """
    bulk_insert(session, Note, [{"body": f"{SECRET} {number}"} for number in range(20)])
    assert audit() == [RESERVED, ("rows_written", "bulk", "INFO")]
    written = audit.records[1]
    assert (written.rows, written.reserved, written.writer) == (20, 20, "copy")

    bulk_insert(session, Shout, [{"body": SECRET}, {"body": SECRET}, {"body": SECRET, "id": 7000}])
    assert audit() == [("fallback", "bulk", "INFO")]
    fallback = audit.records[0]
    assert (fallback.rows, fallback.reserved, fallback.writer) == (3, 0, "insert")
    assert "wraps its values in SQL" in fallback.reason

    bulk_insert(session, Note, [])
    assert audit() == []


def test_bulk_upserts_and_syncs(session: Session, audit: Audit) -> None:
    """Inserted, updated and deleted rows of a call are logged by themselves, and its time once."""
    bulk_insert(session, Note, [{"id": n, "body": f"{n}"} for n in (1, 2, 3)])
    audit()
    bulk_upsert(session, Note, [{"id": n, "body": f"{n}"} for n in (3, 4, 5)], conflict="id")
    assert audit() == [("rows_written", "bulk", "INFO")] * 2
    assert [(each.kind, each.rows) for each in audit.records] == [("insert", 2), ("update", 1)]

    began = time.perf_counter()
    bulk_sync(
        session, Note, [{"id": n, "body": f"new {n}"} for n in (2, 9)], key="id", scope=true()
    )
    took = time.perf_counter() - began
    assert audit() == [("rows_written", "bulk", "INFO")] * 3
    written = [(each.kind, each.rows) for each in audit.records]
    assert written == [("insert", 1), ("update", 1), ("delete", 4)]
    assert sum(each.seconds for each in audit.records) <= took


def test_bulk_inserts_that_fail(session: Session, audit: Audit) -> None:
    """A failed bulk_insert logs its error's class once, whether this package or the database
    refuses the rows.
    """
    with pytest.raises(InvalidRowsError):
        bulk_insert(session, Note, [{"body": None}, {SECRET: 1}])
    with pytest.raises(IntegrityError):
        bulk_insert(session, Note, [{"body": SECRET}, {"body": SECRET}])
    failed = ("failed", "bulk", "INFO")
    assert audit() == [failed, RESERVED, failed]
    assert [audit.records[index].error for index in (0, 2)] == [
        "InvalidRowsError", "IntegrityError",
    ]  # fmt: skip


def test_checks_and_repairs(session: Session, audit: Audit) -> None:
    """Sequences that are behind and a sequence that was moved are logged as WARNING, other results
    of checks and repairs as INFO.
    """
    check_sequences(session, Note)
    session.execute(text("INSERT INTO note VALUES (40, :body)"), {"body": SECRET})
    check_sequences(session, Note)
    assert audit() == [
        ("sequences_checked", "health", "INFO"),
        ("sequences_checked", "health", "WARNING"),
    ]
    assert (audit.records[1].unhealthy_sequences, audit.records[1].largest_gap) == (
        ["note_id_seq"], 40,
    )  # fmt: skip
    repair_sequences(session, Note, dry_run=True)
    whole = ("sequences_repaired", "health", "INFO")
    assert audit() == [("sequence_repair", "health", "INFO"), whole]
    repair_sequences(session, Note)
    assert audit() == [("sequence_repair", "health", "WARNING"), whole]
    assert (audit.records[0].old_value, audit.records[0].new_value) == (1, 40)
    repair_sequences(session, Note)
    assert audit() == [whole]


def test_what_could_not_be_repaired_is_a_warning(session: Session, audit: Audit) -> None:
    """A sequence that could not be repaired is logged as WARNING."""
    session.execute(text("INSERT INTO note VALUES (2147483647, '-')"))
    repair_sequences(session, Note)
    assert audit() == [
        ("sequence_repair", "health", "WARNING"),
        ("sequences_repaired", "health", "WARNING"),
    ]


def test_the_watch(engine: Engine, session: Session, audit: Audit) -> None:
    """watch logs each change of a sequence once; a failed alert is an ERROR, and a sequence that
    will run out soon a WARNING.
    """
    alerts = Alerts(command=f"false {SECRET}", webhook=f"http://127.0.0.1:9/{SECRET}")
    watch = _Rounds(Target(Database(engine.url), None, None), Watcher(alert_gap=10), alerts, None)
    watch.look()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (40, :body)"), {"body": SECRET})
    watch.look()
    failed = ("alert_failed", "watch", "ERROR")
    assert [entry for entry in audit() if entry[1] == "watch"] == [
        ("sequence_state_changed", "watch", "WARNING"),
        failed,
        failed,
    ]
    assert [r.way for r in audit.records if r.event == "alert_failed"] == ["command", "webhook"]
    with engine.begin() as connection:
        repair_sequences(connection, Note)
        audit()
    watch.look()
    assert [entry for entry in audit() if entry[1] == "watch"] == [
        ("sequence_state_changed", "watch", "INFO"),
        failed,
        failed,
    ]
    with engine.begin() as connection:
        connection.execute(text("SELECT setval('note_id_seq', 1500000)"))
    watch.look()
    watch.look()
    assert [entry for entry in audit() if entry[1] == "watch"] == [
        ("sequence_runs_out", "watch", "WARNING")
    ]


def test_routine_is_silent_on_warning(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """At WARNING reservations, writes, fallbacks, failures and healthy checks are not logged."""
    caplog.set_level(logging.WARNING, "sqla_seqreserve")
    session.add_all([*notes(20), Note(body=func.upper(SECRET))])
    session.flush()
    bulk_insert(session, Shout, [{"body": SECRET}])
    check_sequences(session, Note)
    repair_sequences(session, Note)
    session.commit()
    session.add_all(notes(1))
    with pytest.raises(IntegrityError):
        session.flush()
    assert [record for record in caplog.records if record.name.startswith("sqla_seqreserve")] == []


def test_observers_hear_what_no_logger_does(session: Session) -> None:
    """Observers get the events at any log level; an observer that was removed gets no more
    events.
    """
    heard: list[str] = []
    end = _audit.observe(lambda event, fields: heard.append(event))
    try:
        session.add_all(notes(20))
        session.flush()
    finally:
        end()
    session.add_all(notes(20, start=50))
    session.flush()
    assert heard == ["ids_reserved", "rows_written", "flushed"]
