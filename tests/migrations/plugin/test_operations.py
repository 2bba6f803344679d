"""Each operation by itself: its effect, online and as a script, and its reverse."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from sqla_seqreserve.alembic_plugin.adoption import AdoptSequenceOp, ReleaseSequenceOp
from sqla_seqreserve.alembic_plugin.operations import (
    AlterSequenceOp,
    CreateSequenceOp,
    SequenceChanges,
)

Run = Callable[[Callable[[Operations], Any]], None]


@pytest.fixture(params=["online", "--sql"])
def run(request: pytest.FixtureRequest, connection: sa.Connection) -> Run:
    """A function that runs operations on the connection, or writes them as a script and
    runs that.
    """

    def online(body: Callable[[Operations], Any]) -> None:
        body(Operations(MigrationContext.configure(connection)))

    def as_script(body: Callable[[Operations], Any]) -> None:
        buffer = io.StringIO()
        context = MigrationContext.configure(
            dialect_name="postgresql", opts={"as_sql": True, "output_buffer": buffer}
        )
        body(Operations(context))
        # The driver's own connection takes a script, as psql does.
        connection.connection.cursor().execute(buffer.getvalue())

    return online if request.param == "online" else as_script


def sequence_row(connection: sa.Connection, name: str) -> sa.Row[Any]:
    return connection.execute(
        sa.text(
            "SELECT seqtypid::regtype::text AS type, seqstart, seqincrement, seqmin, seqmax,"
            " seqcache, seqcycle, obj_description(seqrelid) AS comment"
            " FROM pg_sequence WHERE seqrelid = cast(:name AS regclass)"
        ),
        {"name": name},
    ).one()


def owned_sequence(connection: sa.Connection, table: str, column: str) -> str | None:
    return connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table, column)))


def next_value(connection: sa.Connection, name: str) -> int:
    return connection.scalar(sa.text("SELECT nextval(:name)"), {"name": name})


def test_create_sequence_takes_every_option(run: Run, connection: sa.Connection) -> None:
    """create_sequence passes on every option, and sets the plugin's mark as the sequence's
    comment.
    """
    run(
        lambda op: op.create_sequence(
            "Odd 'name",
            schema="other",
            data_type=sa.SmallInteger,
            start=7,
            increment=5,
            minvalue=2,
            maxvalue=90,
            cache=3,
            cycle=True,
        )
    )
    assert tuple(sequence_row(connection, 'other."Odd \'name"')) == (
        "smallint",
        7,
        5,
        2,
        90,
        3,
        True,
        "sqla_seqreserve: made by the migrations of alembic_version",
    )


def test_alter_sequence_changes_what_is_given(run: Run, connection: sa.Connection) -> None:
    """alter_sequence changes the options, the owner, the owning column, the schema and the name
    that are given, and nothing else.
    """
    connection.execute(sa.text("CREATE SEQUENCE s CACHE 4; CREATE TABLE other.t (n int)"))
    run(
        lambda op: op.alter_sequence(
            "s",
            increment=3,
            maxvalue=1000,
            cycle=True,
            data_type=sa.Integer(),
            owner=connection.scalar(sa.text("SELECT current_user")),
            new_name="r",
            new_schema="other",
        )
    )
    run(lambda op: op.alter_sequence("r", schema="other", owned_by="t.n", maxvalue=None))
    assert tuple(sequence_row(connection, "other.r"))[:7] == (
        "integer",
        1,
        3,
        1,
        2**31 - 1,
        4,
        True,
    )
    assert owned_sequence(connection, "other.t", "n") == "other.r"


@pytest.mark.parametrize(("increment", "bound"), [(1, {"minvalue": 50}), (-1, {"maxvalue": -50})])
def test_alter_sequence_never_leaves_the_position_out_of_bounds(
    run: Run, connection: sa.Connection, increment: int, bound: dict[str, int]
) -> None:
    """If a new bound passes a sequence's position, alter_sequence moves the position forward to it;
    otherwise the position stays.
    """
    connection.execute(sa.text(f"CREATE SEQUENCE s INCREMENT {increment}; SELECT nextval('s')"))
    run(lambda op: op.alter_sequence("s", start=increment * 50, **bound))
    assert next_value(connection, "s") == increment * 50
    run(lambda op: op.alter_sequence("s", start=increment * 10, **dict.fromkeys(bound)))
    assert next_value(connection, "s") == increment * 51


@pytest.mark.parametrize("sign", [1, -1])
def test_alter_sequence_moves_a_position_into_bounds_beyond_the_old_ones(
    run: Run, connection: sa.Connection, sign: int
) -> None:
    """If alter_sequence sets both bounds beyond those that a sequence had, its next value is the
    first within them.
    """
    near, far = sign * 1, sign * 100
    connection.execute(
        sa.text(
            f"CREATE SEQUENCE s INCREMENT {sign}"
            f" MINVALUE {min(near, far)} MAXVALUE {max(near, far)}; SELECT nextval('s')"
        )
    )
    near, far = sign * 500, sign * 900
    run(
        lambda op: op.alter_sequence(
            "s", start=near, minvalue=min(near, far), maxvalue=max(near, far)
        )
    )
    assert next_value(connection, "s") == near


def test_drop_sequence(run: Run, connection: sa.Connection) -> None:
    """drop_sequence drops a sequence, and with if_exists a missing one is no error."""
    connection.execute(sa.text("CREATE SEQUENCE other.s"))
    run(lambda op: op.drop_sequence("s", schema="other"))
    run(lambda op: op.drop_sequence("s", schema="other", if_exists=True))
    assert connection.scalar(sa.text("SELECT to_regclass('other.s')")) is None


@pytest.mark.parametrize(
    "kind",
    [
        "SERIAL",
        "bigint GENERATED ALWAYS AS IDENTITY",
        "bigint NOT NULL DEFAULT nextval('free')",
    ],
)
def test_resync_moves_forward_only(run: Run, connection: sa.Connection, kind: str) -> None:
    """resync_sequence moves a sequence beyond the column's largest value, and does not move one
    that is ahead.
    """
    connection.execute(sa.text("CREATE SEQUENCE free"))
    connection.execute(sa.text(f'CREATE TABLE other."T" ("Id" {kind}, held int)'))
    insert = 'INSERT INTO other."T" {} OVERRIDING SYSTEM VALUE VALUES ({})'
    connection.execute(sa.text(insert.format('("Id")', "40")))
    run(lambda op: op.resync_sequence("T", "Id", schema="other"))
    draw = sa.text('INSERT INTO other."T" (held) VALUES (0) RETURNING "Id"')
    assert connection.scalar(draw) == 41
    connection.execute(sa.text('DELETE FROM other."T"'))
    run(lambda op: op.resync_sequence("T", "Id", schema="other"))
    assert connection.scalar(draw) == 42


def test_resync_follows_a_negative_increment(run: Run, connection: sa.Connection) -> None:
    """resync_sequence moves a descending sequence below the column's smallest value."""
    connection.execute(
        sa.text(
            "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -2));"
            "INSERT INTO t VALUES (-9)"
        )
    )
    run(lambda op: op.resync_sequence("t", "id"))
    assert connection.scalar(sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")) == -11


@pytest.mark.parametrize("sign", [1, -1])
def test_ids_that_a_sequence_cannot_hand_out_do_not_move_it(
    run: Run, connection: sa.Connection, sign: int
) -> None:
    """resync_sequence and adopt_sequence ignore values outside the sequence's bounds, such as those
    of another range.
    """
    connection.execute(
        sa.text(
            "CREATE TABLE t (low bigint, high bigint GENERATED BY DEFAULT AS IDENTITY"
            f" (INCREMENT {sign} START {sign} MINVALUE -999 MAXVALUE 999));"
            f"INSERT INTO t VALUES ({7 * sign}, {8 * sign}), ({5000 * sign}, {6000 * sign})"
        )
    )
    run(lambda op: op.resync_sequence("t", "high"))
    bounds = {"start": sign, "minvalue": -999, "maxvalue": 999}
    run(lambda op: op.adopt_sequence("t", "low", "s", increment=sign, **bounds))
    inserted = connection.execute(sa.text("INSERT INTO t DEFAULT VALUES RETURNING low, high"))
    assert tuple(inserted.one()) == (8 * sign, 9 * sign)


def test_adopting_a_descending_sequence_never_moves_it_back(
    run: Run, connection: sa.Connection
) -> None:
    """adopt_sequence leaves the position of an existing descending sequence that is below the
    column's values.
    """
    connection.execute(
        sa.text(
            "CREATE SEQUENCE s INCREMENT -1; SELECT setval('s', -50);"
            "CREATE TABLE t (id int); INSERT INTO t VALUES (-1), (-10)"
        )
    )
    run(lambda op: op.adopt_sequence("t", "id", "s", owned=False))
    assert connection.scalar(sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")) == -51


def test_resync_leaves_an_exhausted_sequence(run: Run, connection: sa.Connection) -> None:
    """resync_sequence does nothing for a sequence that has handed out its last value."""
    connection.execute(
        sa.text(
            "CREATE TABLE t (id bigserial); SELECT setval('t_id_seq', 9223372036854775807);"
            "INSERT INTO t VALUES (5)"
        )
    )
    run(lambda op: op.resync_sequence("t", "id"))
    assert connection.scalar(sa.text("SELECT last_value FROM t_id_seq")) == 2**63 - 1


def test_resync_names_the_column_without_a_sequence(run: Run, connection: sa.Connection) -> None:
    """resync_sequence refuses a column without a sequence, and the error names the column."""
    connection.execute(sa.text("CREATE TABLE t (id int)"))
    with pytest.raises(Exception, match=r"t\.id has no sequence"):
        run(lambda op: op.resync_sequence("t", "id"))


def test_resync_never_takes_back_what_is_drawn_meanwhile(engine: sa.Engine) -> None:
    """While migrations call resync_sequence, no nextval() in another session gets a value that was
    given before.
    """
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id bigserial); SELECT nextval('t_id_seq')"))
    drawn: list[int] = []
    done = threading.Event()

    def draw() -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            while not done.is_set():
                drawn.append(next_value(other, "t_id_seq"))

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for value in range(1000, 21_000, 1000):
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO t VALUES (:value)"), {"value": value})
                Operations(MigrationContext.configure(connection)).resync_sequence("t", "id")
    finally:
        done.set()
        thread.join()
    assert drawn == sorted(set(drawn))
    with engine.connect() as connection:
        assert next_value(connection, "t_id_seq") > 20_000


SOURCES = {
    "serial": "CREATE TABLE t (id serial PRIMARY KEY, n int)",
    "identity": "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int)",
    "bare": "CREATE TABLE t (id int PRIMARY KEY, n int)",
    "default": "CREATE SEQUENCE free; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('free'))",
    "owns another": "CREATE TABLE t (id serial PRIMARY KEY);"
    "ALTER SEQUENCE t_id_seq RENAME TO left_over; CREATE SEQUENCE free OWNED BY t.id;"
    "ALTER TABLE t ALTER id SET DEFAULT nextval('free')",
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["t_id_seq", "Numbers"])
def test_adopt_keeps_the_position(
    run: Run, connection: sa.Connection, source: str, name: str
) -> None:
    """After adopt_sequence the column owns the sequence and takes its values from it, and the next
    value follows the last.
    """
    connection.execute(sa.text(SOURCES[source]))
    if source == "bare":
        connection.execute(sa.text("INSERT INTO t VALUES (30)"))
    else:
        drawn = "free" if "free" in SOURCES[source] else "t_id_seq"
        connection.execute(sa.text(f"SELECT nextval('{drawn}') FROM generate_series(1, 30)"))
    run(lambda op: op.adopt_sequence("t", "id", name, maxvalue=5000))
    quoted = f'"{name}"'
    if source != "owns another":
        expected = name if name == "t_id_seq" else quoted
        assert owned_sequence(connection, "t", "id") == f"public.{expected}"
    assert sequence_row(connection, quoted).seqmax == 5000
    assert connection.scalar(sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")) == 31


def test_release_goes_back_with_the_position(run: Run, connection: sa.Connection) -> None:
    """After release_sequence the column is a SERIAL, an identity or has no sequence, and the next
    value follows the last.
    """
    connection.execute(sa.text(SOURCES["serial"]))
    draw = sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")
    assert connection.scalar(draw) == 1
    run(lambda op: op.adopt_sequence("t", "id", "s"))
    assert connection.scalar(draw) == 2
    run(lambda op: op.release_sequence("t", "id", "s", serial="t_id_seq"))
    assert sequence_row(connection, "t_id_seq").comment is None
    assert connection.scalar(draw) == 3
    run(lambda op: op.adopt_sequence("t", "id", "s"))
    run(
        lambda op: op.release_sequence(
            "t", "id", "s", identity=sa.Identity(always=True, cache=5), identity_name="of_t"
        )
    )
    assert owned_sequence(connection, "t", "id") == "public.of_t"
    assert connection.scalar(draw) == 4
    run(lambda op: op.adopt_sequence("t", "id", "s"))
    assert connection.scalar(draw) > 4
    run(lambda op: op.release_sequence("t", "id", "s"))
    assert owned_sequence(connection, "t", "id") is None
    assert connection.scalar(sa.text("SELECT to_regclass('s')")) is None


def test_a_table_may_call_its_columns_as_the_block_calls_its_variables(
    run: Run, connection: sa.Connection
) -> None:
    """Column names such as "last" or "held", which the operations' SQL uses for variables, can be
    used.
    """
    connection.execute(sa.text("CREATE TABLE t (last int, held int); INSERT INTO t VALUES (8, 9)"))
    run(lambda op: op.adopt_sequence("t", "last", "s"))
    run(lambda op: op.adopt_sequence("t", "held", "%s"))
    run(lambda op: op.resync_sequence("t", "last"))
    inserted = connection.execute(sa.text("INSERT INTO t DEFAULT VALUES RETURNING last, held"))
    assert tuple(inserted.one()) == (9, 10)


def test_reverses() -> None:
    """Each operation's reverse is its counterpart; if the values before are not known, reverse()
    raises an error.
    """
    create = CreateSequenceOp("s", schema="x")
    assert create.reverse().reverse() is create
    adopt = AdoptSequenceOp("t", "id", "s")
    assert isinstance(adopt.reverse(), ReleaseSequenceOp)
    assert adopt.reverse().reverse() is adopt
    renamed = AlterSequenceOp("s", schema="x", changes=SequenceChanges({}, name="r", schema="y"))
    back = renamed.reverse()
    assert (back.name, back.schema, back.changes.name, back.changes.schema) == ("r", "y", "s", "x")
    with pytest.raises(NotImplementedError, match="how cache was before is not known"):
        AlterSequenceOp("s", changes=SequenceChanges({"cache": 5})).reverse()


def test_a_column_may_turn_around_with_its_source(run: Run, connection: sa.Connection) -> None:
    """If adopt_sequence or release_sequence changes the direction, the column continues beyond its
    own values in the new direction.
    """
    connection.execute(
        sa.text("CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n int)")
    )
    draw = sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")
    assert [connection.scalar(draw) for _ in range(2)] == [1, 2]
    run(lambda op: op.adopt_sequence("t", "id", "s", increment=-1))
    assert [connection.scalar(draw) for _ in range(2)] == [-1, -2]
    run(lambda op: op.release_sequence("t", "id", "s", identity=sa.Identity()))
    assert connection.scalar(draw) == 3
    run(lambda op: op.adopt_sequence("t", "id", "s", increment=-1))
    assert connection.scalar(draw) == -3
