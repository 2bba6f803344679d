"""How a type of an application, or of a package, goes by COPY.

COPY writes what is provably what INSERT would write. Of SQLAlchemy's own types that is known; of
others it is not, until somebody says so: with a :class:`CopyCodec`, an object with two methods. It
says how the values of a column are written, in binary format or as text, and refuses by an
exception what it cannot write exactly; those rows are written by INSERT, as without it::

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

Codecs of entry points are asked about types that are not SQLAlchemy's own, and in the order of
their names; those that were registered come first, the last one before the others, and are asked
about every type. Codecs for pgvector and for PostGIS (through GeoAlchemy2) come with this package,
and are asked last.
"""

from __future__ import annotations

from ._codec import CopyCodec, CopyColumn, Encode, register_codec

__all__ = ["CopyCodec", "CopyColumn", "Encode", "register_codec"]
