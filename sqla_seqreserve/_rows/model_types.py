"""Compares a column's type in the model with its type in the database: INSERT casts a value to the
first and assigns it to the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Enum

from .. import _reasons as why
from .._ids.catalogue import ColumnFacts
from .._reasons import Reason

INTEGERS: Final = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
MODEL_INTEGERS: Final = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
RANGES: Final = {
    "int4range": "int4",
    "int8range": "int8",
    "numrange": "numeric",
    "daterange": "date",
    "tsrange": "timestamp",
    "tstzrange": "timestamptz",
}
"""Each type of ranges, with the type of its bounds."""

STRINGS: Final = frozenset({"text", "varchar", "bpchar", "citext"})

# The database types that a type of the model may stand for. Other types must have the same name.
_FAMILIES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(MODEL_INTEGERS, frozenset(INTEGERS)),
    **dict.fromkeys(("numeric", "decimal"), frozenset({"numeric"})),
    **dict.fromkeys(("float", "double precision"), frozenset({"float4", "float8"})),
    "real": frozenset({"float4"}),
    **dict.fromkeys(("varchar", "char", "text", "citext", "nvarchar", "nchar"), STRINGS),
    # The server stores JSON as text and JSONB as its meaning.
    "json": frozenset({"json", "jsonb"}),
    "boolean": frozenset({"bool"}),
    "time with time zone": frozenset({"timetz"}),
    "time without time zone": frozenset({"time"}),
    "timestamp with time zone": frozenset({"timestamptz"}),
    "timestamp without time zone": frozenset({"timestamp"}),
}


_OWN: Final[Mapping[str, str]] = {
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "decimal": "numeric",
    "float": "float8",
    "double precision": "float8",
    "real": "float4",
    "boolean": "bool",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}
"""The database's name of a type of the model, if the names differ."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why COPY cannot write a column. ``casts``: some forms of INSERT cast to a type of the model
    that is not the column's, so SQLAlchemy must number the rows.
    """

    reason: Reason
    casts: bool = True


@dataclass(frozen=True, slots=True)
class Modelled:
    """A column in the form to which INSERT casts: the name of the type, of an array's elements, and
    the length or precision.
    """

    name: str
    size: str
    column: ColumnFacts


def is_enum_of(type_: Enum, stored: str) -> bool:
    """Whether the model's enum is the one of the database, in whatever schema."""
    name = stored.removesuffix("[]").rpartition(".")[2].strip('"')
    return type_.native_enum and type_.name == name


def is_type_of_ddl(modelled: Modelled) -> bool:
    """Whether a cast to the model's type is one to the column's type. All strings count as the
    same.
    """
    name, column = modelled.name.removesuffix("[]"), modelled.column
    stored = column.element_type or column.type_name
    if stored in STRINGS or column.is_enum or column.element_is_enum:
        return True
    if name == "float" and modelled.size:
        return stored == ("float4" if int(modelled.size) <= 24 else "float8")
    return stored == _OWN.get(name, name) and modelled.size == size_of(column.type_text)


def mismatch(modelled: Modelled, type_name: str) -> Refusal | None:
    """Return why INSERT's cast changes a value differently from an assignment to the column
    alone.
    """
    model, column = modelled.name, modelled.column
    if model.startswith("interval ") and model == bare_name(column.type_text):
        model = type_name
    if type_name not in _FAMILIES.get(model, {model}):
        return Refusal(why.other_type(column.name, model, type_name))
    if type_name in STRINGS:
        # Only the casts of psycopg2 and psycopg for several rows have CHAR without a length. An
        # array is always cast, and char removes the blanks that other string types keep.
        blanks = column.element_type is not None and type_name != "bpchar"
        narrows = model in {"char", "nchar"} and (blanks or not modelled.size)
    elif model == "float" and modelled.size:
        narrows = int(modelled.size) <= 24 and type_name == "float8"
    elif type_name in {"bit", "varbit"}:
        narrows = True
    else:
        narrows = bool(modelled.size) and modelled.size != size_of(column.type_text)
    if narrows:
        size = f"({modelled.size})" if modelled.size else ""
        return Refusal(why.narrowing_type(column.name, f"{model}{size}", column.type_text))
    return None


def bare_name(cast: str) -> str:
    """Return a type as SQL, without length, precision and collation: ``timestamp with time
    zone``.
    """
    return re.sub(r"\s*\([^)]*\)", "", cast.split(" collate ")[0]).strip()


def size_of(cast: str) -> str:
    """Return the length, or precision and scale: ``10,2``; "" if there is none."""
    found = re.search(r"\(([^)]*)\)", cast)
    if found is None:
        return ""
    size = found[1].replace(" ", "")
    return f"{size},0" if cast.startswith("numeric") and "," not in size else size
