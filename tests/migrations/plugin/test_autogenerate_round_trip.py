"""Autogenerate between random pairs of metadata: upgrade, no difference left, downgrade, the
catalogue as before, upgrade again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

SCHEMAS = [None, "other"]
SEQUENCES = ["s1", "s2", "Odd name"]

types = st.sampled_from([sa.SmallInteger, sa.Integer, sa.BigInteger])
ascending = st.fixed_dictionaries(
    {},
    optional={
        "start": st.integers(10, 20),
        "increment": st.sampled_from([1, 2, 10]),
        "minvalue": st.integers(-3, 5),
        "maxvalue": st.integers(10_000, 10_005),
        "cache": st.sampled_from([1, 7]),
        "cycle": st.booleans(),
        "data_type": types,
    },
)
descending = st.fixed_dictionaries(
    {"increment": st.sampled_from([-1, -2, -10])},
    optional={
        "start": st.integers(-20, -10),
        "minvalue": st.integers(-10_005, -10_000),
        "maxvalue": st.integers(-5, 3),
        "cycle": st.booleans(),
        "data_type": types,
    },
)
options = st.one_of(ascending, descending)
sources = st.tuples(
    st.sampled_from(
        ["serial", "identity", "identity always", "bare", "client", "server", "both", "spelled"]
    ),
    st.sampled_from([*SEQUENCES, "<own>"]),
    st.sampled_from(SCHEMAS),
)
others = st.tuples(
    st.sampled_from(["absent", "none", "constant", "server"]),
    st.sampled_from(SEQUENCES),
    st.sampled_from(SCHEMAS),
)


@dataclass
class Model:
    """A description of a metadata, which Hypothesis can shrink and print."""

    tables: dict[tuple[str, str | None], tuple[Any, Any, type]]
    options: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)
    never_owned: set[tuple[str, str | None]] = field(default_factory=set)
    alone: set[tuple[str, str | None]] = field(default_factory=set)

    def metadata(self) -> sa.MetaData:
        metadata = sa.MetaData()
        sequences: dict[tuple[str, str | None], sa.Sequence] = {}

        def sequence(name: str, schema: str | None) -> sa.Sequence:
            key = (name, schema)
            if key not in sequences:
                made = sa.Sequence(name, schema=schema, **self.options.get(key, {}))
                if key in self.never_owned:
                    made.info["owned_by"] = None
                sequences[key] = made
            return sequences[key]

        for name, schema in self.alone:
            sequence(name, schema)._set_metadata(metadata)
        for (table, table_schema), (source, other, type_) in self.tables.items():
            kind, name, schema = source
            # SQLAlchemy reflects the default of a table outside the default schema as if its
            # sequence were in the table's schema, and Alembic then does not find it. So a table and
            # its sequence have the same schema here.
            schema = table_schema or schema
            if name == "<own>":
                # The name that SERIAL and IDENTITY give their sequence.
                name, schema = f"{table}_id_seq", table_schema
            key: dict[str, Any] = {"primary_key": True}
            default: list[Any] = []
            if kind == "bare":
                key["autoincrement"] = False
            elif kind.startswith("identity"):
                default = [sa.Identity(always=kind.endswith("always"))]
            elif kind in ("client", "both"):
                default = [sequence(name, schema)]
            if kind in ("server", "both"):
                key["server_default"] = sequence(name, schema).next_value()
            if kind == "spelled":
                sequence(name, schema)._set_metadata(metadata)
                dotted = f'"{schema}"."{name}"' if schema else f'"{name}"'
                key["server_default"] = sa.text(f"nextval('{dotted}')")
            columns = [sa.Column("id", type_, *default, **key)]
            kind, name, schema = other
            schema = table_schema or schema
            if kind != "absent":
                value: Any = {"none": None, "constant": sa.text("5")}.get(kind)
                if kind == "server":
                    value = sequence(name, schema).next_value()
                columns.append(sa.Column("n", sa.BigInteger, server_default=value))
            columns.append(sa.Column("note", sa.Text))
            sa.Table(table, metadata, *columns, schema=table_schema)
        return metadata


keys = st.tuples(st.sampled_from(SEQUENCES), st.sampled_from(SCHEMAS))
models = st.builds(
    Model,
    tables=st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(SCHEMAS)),
        st.tuples(sources, others, st.sampled_from([sa.Integer, sa.BigInteger])),
        max_size=3,
    ),
    options=st.dictionaries(keys, options, max_size=4),
    never_owned=st.sets(keys, max_size=1),
    alone=st.sets(keys, max_size=2),
)


# Alembic gives this warning for the alter_column() that it renders for a column that becomes an
# identity.
@pytest.mark.filterwarnings("ignore:autoincrement and existing_autoincrement")
@given(before=models, after=models)
@settings(
    max_examples=25,
    print_blob=True,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_change_goes_there_and_back(
    before: Model, after: Model, connection, migrator, take_picture
) -> None:
    """For any two metadata an upgrade leaves no difference, a downgrade restores the catalogue, and
    a second upgrade gives the same catalogue as the first.
    """
    migrations = migrator()
    outer = connection.begin_nested()
    try:
        up, _ = migrations.generate(before.metadata())
        note(up)
        migrations.run(up)
        assert migrations.diffs(before.metadata()) == []
        fill(connection, before)
        old = take_picture(connection)

        up, down = migrations.generate(after.metadata())
        note(up)
        note(down)
        migrations.run(up)
        new = take_picture(connection)
        assert migrations.diffs(after.metadata()) == []
        fill(connection, after)
        migrations.run(down)
        assert take_picture(connection) == old
        fill(connection, before)
        migrations.run(up)
        assert take_picture(connection) == new
        assert migrations.diffs(after.metadata()) == []
    finally:
        outer.rollback()


def fill(connection: sa.Connection, model: Model) -> None:
    """Insert three rows for every key that the database generates; a value that is given twice
    fails.
    """
    for (name, schema), (source, _, _) in model.tables.items():
        if source[0] in ("identity", "identity always", "server", "both", "spelled"):
            table = sa.table(name, sa.column("note"), schema=schema)
            for _ in range(3):
                connection.execute(sa.insert(table).values(note="x"))
