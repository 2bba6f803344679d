"""Codecs that define how COPY writes a type of an application or of a package.

COPY writes only what provably equals what INSERT would write. That is known for SQLAlchemy's own
types. For other types a :class:`CopyCodec` must say so, an object with two methods. It defines how
the values of a column are written, in binary format or as text. For values that it cannot write
exactly it raises an exception; their rows are then written by INSERT, as without the codec::

    class PointCodec:
        def binary(self, column: CopyColumn) -> Encode | None:
            return None

        def text(self, column: CopyColumn) -> Encode | None:
            if isinstance(column.type, Point) and column.stored == "point":
                return lambda points: [p and f"({p.x!r},{p.y!r})" for p in points]
            return None

    register_codec(PointCodec())

A package names an instance, or a class that is called without arguments, in the entry point group
``sqla_seqreserve.copy_codecs``::

    [project.entry-points."sqla_seqreserve.copy_codecs"]
    points = "points.copying:PointCodec"

Registered codecs are asked first, the last registered one before the others, and about every type.
Codecs of entry points follow in the order of their names, and are asked only about types that are
not SQLAlchemy's own. Codecs for pgvector and for PostGIS (through GeoAlchemy2) come with this
package, and are asked last.
"""

from __future__ import annotations

from ._choice import register_codec
from ._codec import CopyCodec, CopyColumn, Encode

__all__ = ["CopyCodec", "CopyColumn", "Encode", "register_codec"]
