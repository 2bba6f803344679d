"""The differences that autogenerate finds in sequences, and those that it must not report."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.runtime import plugins
from fixtures.numbered import lines, numbered, plain

import sqla_seqreserve.alembic_plugin


def test_a_new_sequence_stands_around_its_table(migrator) -> None:
    """Autogenerate writes CREATE SEQUENCE before the table that uses it and OWNED BY after it; the
    downgrade is in reverse order.
    """
    up, down = migrator().generate(numbered(schema="other", increment=2))
    assert [line.split("(")[0] for line in lines(up)] == [
        "op.create_sequence",
        "op.create_table",
        "op.alter_sequence",
    ]
    assert lines(up)[0] == "op.create_sequence('numbers', schema='other', increment=2)"
    assert lines(up)[2] == "op.alter_sequence('numbers', schema='other', owned_by='t.id')"
    assert lines(down) == [
        "op.alter_sequence('numbers', schema='other', owned_by=None)",
        "op.drop_table('t', schema='other')",
        "op.drop_sequence('numbers', schema='other')",
    ]


def test_a_sequence_without_server_default_does_not_turn_serial(migrator, connection) -> None:
    """A key that has only a Sequence becomes a plain column, and no second sequence is created for
    it.
    """
    migrations = migrator()
    migrations.run(migrations.generate(numbered(on_server=False))[0])
    assert sa.inspect(connection).get_sequence_names() == ["numbers"]
    assert migrations.diffs(numbered(on_server=False)) == []


@pytest.mark.parametrize("compare_server_default", [False, True])
@pytest.mark.parametrize("schema", [None, "other"])
@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize(
    ("on_server", "on_client", "default"),
    [(True, True, True), (True, False, True), (False, True, True), (False, True, False)],
)
def test_nothing_to_say_after_a_migration_by_hand(
    migrator, connection, on_server, on_client, default, owned, schema, compare_server_default
) -> None:
    """A sequence from a migration by hand is no difference, owned or not, with its default
    or not.
    """
    dot = f"{schema}." if schema else ""
    connection.execute(sa.text(f"CREATE SEQUENCE {dot}numbers"))
    value = f"DEFAULT nextval('{dot}numbers')" if default else ""
    connection.execute(sa.text(f"CREATE TABLE {dot}t (id bigint PRIMARY KEY {value})"))
    if owned:
        connection.execute(sa.text(f"ALTER SEQUENCE {dot}numbers OWNED BY {dot}t.id"))
    metadata = numbered(on_server=on_server, on_client=on_client, schema=schema)
    assert migrator(compare_server_default=compare_server_default).diffs(metadata) == []


@pytest.mark.parametrize("compare_server_default", [False, True])
@pytest.mark.parametrize(
    "metadata",
    [
        plain(),
        plain(default=[sa.Identity()]),
        plain(default=[sa.Identity(always=True, start=10, increment=5, cache=3)]),
        plain(server_default=sa.text("nextval('others')")),
    ],
    ids=["serial", "identity", "identity with options", "spelled out"],
)
def test_nothing_to_say_after_upgrade(
    migrator, connection, metadata, compare_server_default
) -> None:
    """SERIAL, Identity and a default given as text are no difference right after the upgrade."""
    connection.execute(sa.text("CREATE SEQUENCE others"))
    migrations = migrator(compare_server_default=compare_server_default)
    migrations.run(migrations.generate(metadata)[0])
    assert migrations.diffs(metadata) == []


def test_what_others_made_is_never_dropped(migrator, connection) -> None:
    """Autogenerate drops no sequence of SERIAL, identities, extensions or other projects, and no
    unknown sequence.
    """
    connection.execute(
        sa.text(
            "CREATE TABLE t (id bigserial PRIMARY KEY, n serial,"
            " i int GENERATED ALWAYS AS IDENTITY);"
            "CREATE SEQUENCE unknown; CREATE SEQUENCE other.unknown;"
            "CREATE SEQUENCE theirs; COMMENT ON SEQUENCE theirs"
            " IS 'sqla_seqreserve: made by the migrations of their_version';"
            "CREATE SEQUENCE of_extension; COMMENT ON SEQUENCE of_extension"
            " IS 'sqla_seqreserve: made by the migrations of alembic_version';"
            "ALTER EXTENSION plpgsql ADD SEQUENCE of_extension"
        )
    )
    metadata = plain(autoincrement=False)
    metadata.tables["t"].append_column(sa.Column("n", sa.Integer, nullable=False))
    metadata.tables["t"].append_column(sa.Column("i", sa.Integer, sa.Identity(always=True)))
    assert migrator().diffs(metadata) == []


def test_what_the_migrations_made_is_dropped(migrator) -> None:
    """A sequence that these migrations created is dropped if no model declares it and no column
    uses it.
    """
    metadata = sa.MetaData()
    sa.Sequence("numbers", metadata=metadata, start=5, cache=2, cycle=True)
    migrations = migrator()
    migrations.run(migrations.generate(metadata)[0])
    up, down = migrations.generate(sa.MetaData())
    assert lines(up) == ["op.drop_sequence('numbers')"]
    assert lines(down) == ["op.create_sequence('numbers', start=5, cache=2, cycle=True)"]


def test_what_a_column_still_draws_from_is_not_dropped(migrator, connection) -> None:
    """If a model no longer declares its Sequence, but the column uses it, the sequence is not
    dropped.
    """
    migrations = migrator()
    migrations.run(migrations.generate(numbered())[0])
    assert migrations.diffs(plain()) == []


def test_changed_options_and_owner(migrator, connection) -> None:
    """Only the options and owner that differ are altered, and the downgrade restores them."""
    connection.execute(
        sa.text(
            "CREATE TABLE t (id bigserial PRIMARY KEY); CREATE TABLE other_owner (n int);"
            "CREATE SEQUENCE numbers INCREMENT 7 CACHE 3 OWNED BY other_owner.n;"
            "ALTER TABLE t ALTER id SET DEFAULT nextval('numbers'); DROP SEQUENCE t_id_seq"
        )
    )
    metadata = numbered(maxvalue=9000, cache=3)
    sa.Table("other_owner", metadata, sa.Column("n", sa.Integer))
    up, down = migrator().generate(metadata)
    assert lines(up) == [
        "op.alter_sequence('numbers', owned_by=None)",
        "op.alter_sequence('numbers', increment=1, maxvalue=9000)",
        "op.alter_sequence('numbers', owned_by='t.id')",
    ]
    assert lines(down) == [
        "op.alter_sequence('numbers', owned_by=None)",
        "op.alter_sequence('numbers', increment=7, maxvalue=None)",
        "op.alter_sequence('numbers', owned_by='other_owner.n')",
    ]


def test_a_sequence_may_turn_around(migrator, connection) -> None:
    """If a model changes the direction of a sequence, the upgrade restarts it within its new
    bounds, and the downgrade restores it.
    """
    up, down = sa.MetaData(), sa.MetaData()
    sa.Sequence("numbers", metadata=up)
    sa.Sequence("numbers", metadata=down, increment=-2)
    migrations = migrator()
    migrations.run(migrations.generate(up)[0])
    there, back = migrations.generate(down)
    migrations.run(there)
    assert migrations.diffs(down) == []
    draw = sa.text("SELECT nextval('numbers') FROM generate_series(1, 2)")
    assert connection.scalars(draw).all() == [-1, -3]
    migrations.run(back)
    assert migrations.diffs(up) == []
    assert connection.scalars(draw).all() == [1, 2]


@pytest.mark.parametrize("owner", [None, "t.id", "Column"])
def test_the_owner_may_be_declared(migrator, connection, owner) -> None:
    """Sequence.info["owned_by"] sets the owner of the sequence, or that it has none."""
    metadata = numbered()
    column = metadata.tables["t"].c.id
    column.default.info["owned_by"] = column if owner == "Column" else owner
    migrations = migrator()
    migrations.run(migrations.generate(metadata)[0])
    owned = connection.scalar(sa.text("SELECT pg_get_serial_sequence('t', 'id')"))
    assert owned == (owner and "public.numbers")
    connection.execute(sa.text(f"ALTER SEQUENCE numbers OWNED BY {'NONE' if owner else 't.id'}"))
    (diff,) = migrations.diffs(metadata)
    assert diff[0] == "modify_sequence"
    assert diff[3] == {"owned_by": "t.id" if owner else None}


@pytest.mark.parametrize("compare_server_default", [False, True])
@pytest.mark.parametrize(
    ("before", "created"),
    [("serial", "bigserial"), ("identity", "bigint GENERATED BY DEFAULT AS IDENTITY")],
)
def test_a_generated_column_is_adopted(
    migrator, connection, before, created, compare_server_default
) -> None:
    """If a SERIAL or IDENTITY column gets a declared sequence, the next value follows the last,
    after the upgrade and after the downgrade.
    """
    connection.execute(sa.text(f"CREATE TABLE t (id {created} PRIMARY KEY)"))
    draw = sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")
    assert [connection.scalar(draw) for _ in range(3)] == [1, 2, 3]
    migrations = migrator(compare_server_default=compare_server_default)
    up, down = migrations.generate(numbered())
    assert lines(up) == ["op.adopt_sequence('t', 'id', 'numbers')"]
    migrations.run(up)
    assert connection.scalar(draw) == 4
    migrations.run(down)
    assert connection.scalar(draw) == 5
    assert sa.inspect(connection).get_sequence_names() == ["t_id_seq"]


def test_a_bare_column_gets_a_sequence_beyond_its_rows(migrator, connection) -> None:
    """A new sequence for a column of a table with rows starts after the largest value."""
    connection.execute(sa.text("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (70)"))
    migrations = migrator()
    migrations.run(migrations.generate(numbered())[0])
    assert connection.scalar(sa.text("INSERT INTO t DEFAULT VALUES RETURNING id")) == 71


def test_comparing_uses_up_no_values(migrator, connection) -> None:
    """Comparing two different nextval() defaults takes no value from either sequence."""
    connection.execute(
        sa.text(
            "CREATE SEQUENCE old; CREATE SEQUENCE numbers;"
            "CREATE TABLE t (id bigint PRIMARY KEY, n bigint DEFAULT nextval('old'))"
        )
    )
    metadata = plain(autoincrement=False)
    numbers = sa.Sequence("numbers", metadata=metadata)
    column = sa.Column("n", sa.BigInteger, server_default=numbers.next_value())
    metadata.tables["t"].append_column(column)
    assert [diff[0] for diff in migrator().diffs(metadata)][1:] == ["resync_sequence"]
    for name in ("old", "numbers"):
        assert connection.scalar(sa.text(f"SELECT is_called FROM {name}")) is False


@pytest.mark.parametrize("answer", [True, False, None])
def test_the_users_comparison_is_asked_first(migrator, connection, answer) -> None:
    """If the user's compare_server_default returns a result, it is used; if it returns None, this
    package compares.
    """
    connection.execute(
        sa.text("CREATE SEQUENCE numbers; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT 5)")
    )
    migrations = migrator(compare_server_default=lambda *args: answer)
    changed = [diff for diff in migrations.diffs(numbered()) if isinstance(diff, list)]
    assert bool(changed) is (answer is not False)


@pytest.mark.parametrize(
    ("option", "function"),
    [
        ("include_name", lambda name, type_, parents: type_ != "sequence"),
        ("include_object", lambda object_, name, type_, reflected, compare_to: type_ != "sequence"),
        (
            "include_object",
            lambda object_, name, type_, reflected, compare_to: type_ != "table",
        ),
    ],
    ids=["name", "object", "table"],
)
def test_filters_exclude_sequences(migrator, connection, option, function) -> None:
    """include_name and include_object can exclude sequences; a sequence of an excluded table is
    excluded too.
    """
    connection.execute(
        sa.text(
            "CREATE SEQUENCE gone; COMMENT ON SEQUENCE gone"
            " IS 'sqla_seqreserve: made by the migrations of alembic_version'"
        )
    )
    up, _ = migrator(**{option: function}).generate(numbered())
    assert not [line for line in lines(up) if "_sequence('numbers'" in line]


def test_schemas_that_are_not_looked_at_are_left_alone(migrator, connection) -> None:
    """Without include_schemas only declared sequences of other schemas are compared."""
    connection.execute(
        sa.text(
            "CREATE SEQUENCE other.numbers; CREATE SEQUENCE other.gone;"
            " COMMENT ON SEQUENCE other.gone"
            " IS 'sqla_seqreserve: made by the migrations of alembic_version'"
        )
    )
    metadata = sa.MetaData()
    sa.Sequence("numbers", schema="other", metadata=metadata)
    assert migrator(include_schemas=False).diffs(metadata) == []
    assert [diff[0] for diff in migrator().diffs(metadata)] == ["remove_sequence"]


def test_a_plugin_under_two_names_speaks_once(migrator) -> None:
    """If the module is also registered as a plugin by hand, autogenerate writes no
    operation twice.
    """
    plugins.Plugin.setup_plugin_from_module(
        sqla_seqreserve.alembic_plugin, "alembic.autogenerate.twice"
    )
    try:
        up, _ = migrator().generate(numbered())
    finally:
        plugins._all_plugins["alembic.autogenerate.twice"].remove()
    assert len(lines(up)) == 3
