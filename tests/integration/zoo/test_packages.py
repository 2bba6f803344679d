"""Columns of types that applications use, of the server, of SQLAlchemy and of packages: the stored
values are plain SQLAlchemy's on each driver, and a row takes one id.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.type_cases import Side, differences_of
from fixtures.zoo import Kind, Pair, Zoo, have, ids_taken, made, pairs
from fixtures.zoo_of_packages import PACKAGES, VALUES
from fixtures.zoo_of_the_server import EXTENSIONS, SERVER, SQLALCHEMY

KINDS = [*SQLALCHEMY, *SERVER, *EXTENSIONS, *VALUES, *PACKAGES]

ENCODED_BY_ASYNCPG = frozenset(
    {
        *("point of an application's type", "box of an application's type", "line", "lseg"),
        *("path", "polygon", "circle", "pg_lsn", "xid8", "txid_snapshot"),
    }
)
"""Kinds of which plain SQLAlchemy on asyncpg saves several objects at once, but not one: asyncpg
encodes the parameter of an INSERT of one row itself, and accepts no text for it. COPY writes one
row, too.
"""

ROWS = 12

pytestmark = [
    pytest.mark.zoo,
    # The packages of others may give warnings of their own types.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SAWarning"),
]


@pytest.fixture(scope="module")
def zoo(twin_urls: tuple[str, str]) -> Zoo:
    """The tables of all kinds, created once."""
    return made(twin_urls, KINDS)


@pytest.fixture(scope="module", params=["psycopg", "psycopg2", "asyncpg"])
def pair(zoo: Zoo, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """An engine of each driver for each side, for all kinds."""
    yield from pairs(zoo, request.param)


@pytest.mark.parametrize("item", KINDS, ids=lambda item: item.name)
def test_a_column_is_what_plain_sqlalchemy_stores(pair: Pair, item: Kind) -> None:
    """Rows, attributes and errors of each kind of column are those of plain SQLAlchemy, by COPY and
    with the default settings. A row takes one id: none is reserved for a row that the database
    numbers itself.
    """
    model = pair.zoo.model_of(item)
    alone = pair.driver != "asyncpg" or item.name not in ENCODED_BY_ASYNCPG
    sequence = f"{model.__table__.name}_id_seq"
    values = [value for value in item.values if type(value) is type(item.values[0])] * ROWS

    def compared() -> list[str]:
        plain, copy, usual = (
            Side(engine, item, settings, model=model)
            for engine, settings in (
                (pair.plain, None),
                (pair.ours, {"copy_min_rows": 1}),
                (pair.ours, {}),
            )
        )
        with plain.session, copy.session, usual.session:
            found = differences_of(plain, copy, item, alone=alone)
            expected, _ = plain.flush(values)
            for name, ours in (("by COPY", copy), ("by default", usual)):
                before = ids_taken(pair.ours, sequence)
                actual, writers = ours.flush(values)
                if actual != expected:
                    found.append(f"{name}: {actual} ours, {expected} plain")
                taken = ids_taken(pair.ours, sequence) - before
                if isinstance(expected, list) and taken != len(values):
                    found.append(f"{name}: {taken} ids for {len(values)} rows, {writers}")
        return found

    found = pair.run(compared)
    assert not found, "\n".join(found)


def test_the_packages_are_there() -> None:
    """The packages of the extra [zoo] are installed, because kinds of a missing package would not
    be tested.
    """
    modules = ["numpy", "pandas", "pendulum", "sqlalchemy_utils", "sqlalchemy_json", "sqlmodel"]
    modules += ["advanced_alchemy.types", "pgvector.sqlalchemy", "geoalchemy2", "shapely"]
    modules += ["furl", "arrow", "babel", "colour", "passlib", "phonenumbers", "cryptography"]
    missing = [name for name in modules if not have(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert len(KINDS) >= 169
