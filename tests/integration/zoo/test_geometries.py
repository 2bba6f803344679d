"""GeoAlchemy2's columns: what COPY stores is what plain SQLAlchemy stores, on each driver."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.twins import Twins
from fixtures.type_cases import Case, Side, case, differences_on
from fixtures.zoo import need_extension

pytestmark = pytest.mark.zoo
geoalchemy2 = pytest.importorskip("geoalchemy2")
from geoalchemy2 import Geography, Geometry, WKBElement, WKTElement  # noqa: E402  # as above

HEX = "0101000020e6100000000000000000f03f0000000000000040"
"""POINT(1 2) with SRID 4326, as extended WKB."""

POINTS: list[Any] = [
    "POINT(1 2)",
    "SRID=4326;POINT(1 2)",
    "SRID=4326;POINT(0.1 -0.2)",
    "SRID=0;POINT(1 2)",
    "SRID=3857;POINT(1 2)",
    "SRID=4326;POINT EMPTY",
    "SRID=4326;POINT Z (1 2 3)",
    "SRID=4326;LINESTRING(0 0, 1 1)",
    "SRID=4326;POINT(1e400 nan)",
    '{"type": "Point", "coordinates": [1, 2]}',
    "nonsense",
    "",
    HEX,
    HEX.upper(),
    HEX[:-2],
    bytes.fromhex(HEX),
    5,
    None,
    WKTElement("POINT(1 2)", srid=4326),
    WKTElement("POINT(1 2)"),
    WKTElement("SRID=4326;POINT(1 2)", extended=True),
    WKBElement(bytes.fromhex(HEX)),
    WKBElement(bytes.fromhex(HEX), extended=True),
]

SHAPES = [
    "SRID=4326;POINT(1 2)",
    "SRID=4326;POLYGON((0 0, 1 0, 1 1, 0 0))",
    "SRID=4326;POLYGON((0 0, 1 0, 1 1))",
    "SRID=4326;GEOMETRYCOLLECTION(POINT(1 2), LINESTRING(0 0, 1 1))",
    "SRID=4326;CIRCULARSTRING(0 0, 1 1, 1 0)",
    "SRID=4326;POINT ZM (1 2 3 4)",
    "POINT(181 91)",
    "SRID=4326;POINT(181 91)",
    HEX,
]

# Without an index: it is not compared, and its name would come from the table on both sides.
CASES = [
    case("geometry point", Geometry("POINT", 4326, spatial_index=False), POINTS),
    case("geometry", Geometry(spatial_index=False), [*SHAPES, *POINTS]),
    case("geometry of one srid", Geometry("GEOMETRY", 4326, spatial_index=False), SHAPES),
    case("geography point", Geography("POINT", 4326, spatial_index=False), POINTS),
    case("geography", Geography(srid=4326, spatial_index=False), SHAPES),
    case(
        "geometry by another function",
        Geometry("POINT", 4326, spatial_index=False, from_text="ST_GeomFromText"),
        ["POINT(1 2)", None],
        never_copy=True,
    ),
]


@pytest.fixture(autouse=True)
def _extension(twin_urls: tuple[str, str]) -> None:
    need_extension(twin_urls, "postgis")


@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_geometry_is_what_plain_sqlalchemy_stores(twins: Twins, driver: str, item: Case) -> None:
    """Rows, attributes and errors of a geometry are those of plain SQLAlchemy, in whatever form it
    is given.
    """
    found = differences_on(twins, driver, item)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
@pytest.mark.parametrize("given", ["SRID=4326;POINT(1 2)", WKTElement("POINT(1 2)", srid=4326)])
def test_geometries_go_by_copy(twins: Twins, given: Any) -> None:
    """Geometries given as text or as elements go by COPY, though an INSERT wraps them in a
    function.
    """
    item = Case("point", Geometry("POINT", 4326, spatial_index=False), ())
    ours = Side(twins.ours, item, {"copy_min_rows": 1})
    with ours.session:
        stored, writers = ours.flush([given] * 5)
    assert writers == {"copy"}
    assert stored[2] == [HEX.upper()] * 5


def test_a_type_that_says_its_srid_twice_is_left_to_insert(twins: Twins) -> None:
    """A subclass of Geometry with an SQL expression of its own goes by INSERT, with plain
    SQLAlchemy's result.
    """

    class Own(Geometry):
        cache_ok = True

        def bind_expression(self, bindvalue: Any) -> Any:
            from sqlalchemy import func

            return func.ST_Translate(super().bind_expression(bindvalue), 1, 1, type_=self)

    item = Case("own", Own("POINT", 4326, spatial_index=False), ())
    plain, ours = Side(twins.plain, item, None), Side(twins.ours, item, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush(["SRID=4326;POINT(1 2)"] * 3)
        actual, writers = ours.flush(["SRID=4326;POINT(1 2)"] * 3)
    assert actual[2] == expected[2]
    assert "copy" not in writers


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
def test_shapes_of_shapely_go_by_copy(twins: Twins) -> None:
    """Shapes of shapely that from_shape() converts go by COPY, and are stored as by plain
    SQLAlchemy.
    """
    shapely = pytest.importorskip("shapely")
    from geoalchemy2.shape import from_shape

    shapes = [shapely.Point(1, 2), shapely.LineString([(0, 0), (1, 0.1)]), shapely.Polygon()]
    values = [from_shape(shape, srid=4326) for shape in shapes]
    item = Case("shape", Geometry("GEOMETRY", 4326, spatial_index=False), ())
    plain, ours = Side(twins.plain, item, None), Side(twins.ours, item, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush(values)
        actual, writers = ours.flush(values)
    assert actual[2] == expected[2]
    assert writers == {"copy"}
