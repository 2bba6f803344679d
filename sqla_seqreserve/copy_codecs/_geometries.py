"""GeoAlchemy2's Geometry and Geography, as text; not Raster, for which INSERT parses another text.

GeoAlchemy2 wraps the text that it sends in ``ST_GeomFromEWKT()`` or ``ST_GeogFromText()``. Both
parse it as the input functions of the types do, which COPY calls, and check the kind and SRID of
the column with the same function; except that ``ST_GeogFromText()`` does not accept hexadecimal
WKB. Read in GeoAlchemy2 0.14 to 0.20 and PostGIS 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ._codec import CopyColumn, Encode

__all__ = ["CODEC"]

_PARSED_BY: Final = {"geometry": "ST_GeomFromEWKT", "geography": "ST_GeogFromText"}


class _Geometries:
    """The codec of geometry and geography columns with GeoAlchemy2's own types."""

    def binary(self, column: CopyColumn) -> Encode | None:  # noqa: ARG002  # the protocol's
        return None

    def text(self, column: CopyColumn) -> Encode | None:
        from geoalchemy2 import Geography, Geometry

        cls = {"geometry": Geometry, "geography": Geography}.get(column.stored)
        given: Any = column.type
        if (
            cls is None
            or not isinstance(given, cls)
            or given.from_text != _PARSED_BY[column.stored]
            or type(given).bind_processor is not cls.bind_processor
            or type(given).bind_expression is not cls.bind_expression
        ):
            return None
        process = given.bind_processor(column.dialect)
        is_geography = column.stored == "geography"

        def encode(values: Sequence[Any]) -> Sequence[Any]:
            texts = [None if value is None else process(value) for value in values]
            if not set(map(type, texts)) <= {str, type(None)}:
                raise TypeError("a value that GeoAlchemy2 makes no text of")
            if is_geography and any(text.lstrip()[:1] == "0" for text in texts if text is not None):
                raise ValueError("hexadecimal WKB, which ST_GeogFromText() does not take")
            return texts

        return encode


CODEC: Final = _Geometries()
