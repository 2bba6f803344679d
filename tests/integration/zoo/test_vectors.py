"""pgvector's columns: what binary COPY stores is what plain SQLAlchemy stores, on each driver."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fixtures.seeds import seed
from fixtures.twins import Twins, make_engine
from fixtures.type_cases import Case, Side, case, differences, differences_on
from fixtures.zoo import ids_taken, need_extension
from sqlalchemy import Engine, Integer, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert, register
from sqla_seqreserve.testing import record_statements

pytestmark = pytest.mark.zoo
np = pytest.importorskip("numpy")
pgvector = pytest.importorskip("pgvector")
from pgvector import HalfVector, SparseVector, Vector  # noqa: E402  # as above
from pgvector import sqlalchemy as types  # noqa: E402  # as above

NAN, INFINITY = float("nan"), float("inf")
TIE = 1 + 2**-24
"""A double halfway between two four-byte floats."""

NUMBERS: list[Any] = [
    [1.0, 2.0, 3.0],
    [0.1, 1 / 3, -2.5],
    [0, 1, -0.0],
    [True, 2, 3.5],
    [TIE, 1 + 3 * 2**-24, -TIE],
    [1e-40, 1e-46, 1e-300],
    [3.4e38, -3.4e38, 1.2e-38],
    [1e39, 0.0, 0.0],
    [NAN, 0.0, 0.0],
    [0.0, INFINITY, 0.0],
    [65504, 65519.9, -65520],
    [6e-5, 5.96e-8, 2.98e-8],
    [1 + 2**-11, 1 + 2**-11 + 2**-24, 1 + 3 * 2**-11],
    [1.0, 2.0],
    [],
    (1.0, 2.0, 3.0),
    [None, 1.0, 2.0],
    ["1", "2", "3"],
    [[1.0, 2.0, 3.0]],
    "[1,2,3]",
    5,
    None,
    np.array([0.1, 1 / 3, -2.5]),
    np.array([0.1, 1 / 3, -2.5], dtype=np.float32),
    np.array([0.1, 1 / 3, -2.5], dtype=np.float16),
    np.array([TIE, 1 + 3 * 2**-24, 1.0]),
    np.array([1, 2, 3]),
    np.array([1e39, 0, 0]),
    np.array([NAN, 0, 0]),
    np.array([[1.0, 2.0, 3.0]]),
    np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[::2],
]

CASES = [
    case("vector", types.VECTOR(3), [*NUMBERS, Vector([0.1, 2.0, TIE])]),
    case("vector of any dimension", types.VECTOR(), [[1.0], [1.0, 2.5], np.ones(7), None]),
    case("halfvec", types.HALFVEC(3), [*NUMBERS, HalfVector([0.1, 2.0, 3.0])]),
    case(
        "sparsevec",
        types.SPARSEVEC(3),
        [
            SparseVector({0: 1.5, 2: 0.1}, 3),
            SparseVector({0: TIE, 2: 1e-40}, 3),
            SparseVector({1: NAN}, 3),
            SparseVector({}, 3),
            SparseVector({5: 1.0}, 6),
            [0.1, 0.0, 1 / 3],
            np.array([0.1, 0.0, 3.0]),
            None,
        ],
    ),
    case(
        "domain over a vector",
        types.VECTOR(3),
        [[1.0, 2.0, 3.0]],
        column="embedding",
        ddl=["CREATE DOMAIN embedding AS vector(3) CHECK (value <> '[0,0,0]')"],
    ),
    case("bit", types.BIT(3), ["101", "000", None]),
]


@pytest.fixture(autouse=True)
def _extension(twin_urls: tuple[str, str]) -> None:
    need_extension(twin_urls, "vector")


# numpy warns of 1e39 in SQLAlchemy's INSERT and in this package's COPY.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_vector_is_what_plain_sqlalchemy_stores(twins: Twins, driver: str, item: Case) -> None:
    """Rows, attributes and errors of a vector are those of plain SQLAlchemy, in whatever form it is
    given.
    """
    found = differences_on(twins, driver, item)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["VECTOR", "HALFVEC"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_random_vectors_are_rounded_as_the_server_does(
    twins: Twins, driver: str, name: str
) -> None:
    """A thousand vectors of random numbers of every size are stored as plain SQLAlchemy stores
    them.
    """
    drawn = seed()
    print(f"seed {drawn}")
    numbers = random.Random(drawn)
    # The largest half-precision number is 65,504, a little less than 2**16.
    largest = 120 if name == "VECTOR" else 14

    def number() -> float:
        bits = numbers.choice([52, 30, 24, 23, 11, 10])
        digits = 1 + numbers.getrandbits(bits) / 2**bits
        return numbers.choice([-1, 1]) * digits * 2.0 ** numbers.randint(-30, largest)

    values = [[number() for _ in range(8)] for _ in range(1000)]
    item = Case("random", getattr(types, name)(8), ())
    found = []
    engines = [
        make_engine(engine.url.set(drivername=f"postgresql+{driver}"))
        for engine in (twins.plain, twins.ours)
    ]
    plain, ours = (
        Side(engines[0], item, None),
        Side(engines[1], item, {"copy_min_rows": 1}),
    )
    with plain.session, ours.session:
        for start in range(0, 1000, 10):
            some: Sequence[Any] = values[start : start + 10]
            for given in (some, [np.array(value) for value in some]):
                expected, actual = plain.flush(given)[0], ours.flush(given)
                found += differences("random", actual[0], expected)
                assert actual[1] == {"copy"}
    for engine in engines:
        engine.dispose()
    assert not found, "\n".join(found)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[int] = mapped_column(Integer, unique=True)
    embedding: Mapped[Any] = mapped_column(types.VECTOR(4), nullable=True)


@contextmanager
def items(engine: Engine, **settings: Any) -> Iterator[Session]:
    """A registered session on a database with an empty table of items."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, **settings)
        yield session
        session.rollback()
    Base.metadata.drop_all(engine)


@pytest.fixture
def session(twins: Twins) -> Iterator[Session]:
    """A session that writes even one row by COPY."""
    with items(twins.ours, copy_min_rows=1) as session:
        yield session


def stored(session: Session) -> list[str]:
    return list(session.scalars(text("SELECT embedding::text FROM item ORDER BY code")))


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
def test_vectors_go_by_binary_copy(twins: Twins) -> None:
    """Vectors are sent by binary COPY."""
    with items(twins.ours, copy_min_rows=1) as session:
        with record_statements(twins.ours) as statements:
            session.add_all([Item(code=n, embedding=[n, 1, 2, 0.1]) for n in range(20)])
            session.flush()
        [copied] = [each.sql for each in statements if each.sql.startswith("COPY")]
        assert "FORMAT BINARY" in copied
        assert stored(session)[19] == "[19,1,2,0.1]"


ROWS: dict[str, Callable[[], Any]] = {
    "lists": lambda: {"code": [1, 2], "embedding": [[1, 2, 3, 4], [5, 6, 7, 0.1]]},
    "two-dimensional array": lambda: {
        "code": [1, 2],
        "embedding": np.array([[1, 2, 3, 4], [5, 6, 7, 0.1]]),
    },
    "arrow": lambda: _arrow([[1, 2, 3, 4], [5, 6, 7, 0.1]]),
}


def _arrow(values: list[list[float] | None]) -> Any:
    pa = pytest.importorskip("pyarrow")
    numbers = [number for value in values for number in value or [0.0] * 4]
    flat = pa.array(numbers, pa.float32())
    mask = pa.array([value is None for value in values])
    return pa.table(
        {
            "code": pa.array(range(1, len(values) + 1)),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, 4, mask=mask),
        }
    )


@pytest.mark.parametrize("rows", ROWS)
def test_bulk_insert_takes_vectors_as_columns(session: Session, rows: str) -> None:
    """bulk_insert stores lists, a two-dimensional array and an Arrow column of lists alike."""
    ids = bulk_insert(session, Item, ROWS[rows]())
    assert len(ids) == 2
    assert stored(session) == ["[1,2,3,4]", "[5,6,7,0.1]"]


def test_bulk_insert_takes_arrow_columns_with_gaps(session: Session) -> None:
    """In an Arrow column a missing vector is stored as NULL, and the rows after it keep their own
    vectors.
    """
    bulk_insert(session, Item, _arrow([[1, 2, 3, 4], None, [5, 6, 7, 8]]))
    assert stored(session) == ["[1,2,3,4]", None, "[5,6,7,8]"]


@pytest.mark.parametrize("count", [2, 300])
def test_bulk_upsert_takes_vectors(session: Session, count: int) -> None:
    """bulk_upsert inserts new vectors and overwrites others, for few rows and for many."""
    bulk_insert(session, Item, [{"code": n, "embedding": [0, 0, 0, n]} for n in range(count // 2)])
    rows = {"code": range(count), "embedding": np.arange(count * 4).reshape(-1, 4) / 8}
    result = bulk_upsert(session, Item, rows, conflict=["code"])
    assert (result.inserted, result.updated) == (count - count // 2, count // 2)
    assert stored(session)[count - 1] == session.scalar(
        select(text("cast(:given as vector)::text")),
        {"given": str(list(rows["embedding"][-1].tolist()))},  # type: ignore[attr-defined]
    )


def registered(engine: Engine) -> None:
    """Register pgvector's own adapters on each connection of an engine."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        if engine.driver == "asyncpg":
            from pgvector.asyncpg import register_vector

            connection.run_async(lambda raw: register_vector(raw, schema="extensions"))
        elif engine.driver == "psycopg":
            from pgvector.psycopg import register_vector as register_psycopg

            register_psycopg(connection)
        else:
            from pgvector.psycopg2 import register_vector as register_psycopg2

            register_psycopg2(connection)


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
@pytest.mark.parametrize(
    "settings",
    [{}, {"copy_min_rows": 1}, {"reserve": "always"}, {"mode": "reserve"}],
    ids=["default", "copy", "always", "reserve"],
)
@pytest.mark.parametrize("count", [2, 50])
def test_registered_vectors_are_saved(twins: Twins, settings: dict[str, Any], count: int) -> None:
    """If pgvector is registered with the driver, several objects are saved with their vectors, and
    each row takes one id.
    """
    registered(twins.ours)
    with items(twins.ours, **settings) as session:
        session.add_all([Item(code=n, embedding=[n, 1, 2, 0.1]) for n in range(count)])
        session.commit()
        assert stored(session) == [f"[{n},1,2,0.1]" for n in range(count)]
        session.rollback()
        assert ids_taken(twins.ours, "item_id_seq") == count
