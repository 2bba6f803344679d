"""Decides, for each column of a table, which Python values COPY writes exactly as INSERT would.

With INSERT, PostgreSQL casts: a parameter of one type is cast to the model's type and assigned to
the column's. COPY casts nothing, so a codec exists only if the model's type and the column's mean
the same, and it names the *exact* Python types that are accepted. These depend on the driver: each
has a table of its own (``psycopg_values``, ``psycopg2_values``, ``asyncpg_values``). Everything
else is left to INSERT: mixtures of types, and values that the server would cast or refuse.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import JSON, Boolean, Connection, Dialect, Enum
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import ARRAY, TypeEngine

from .. import _reasons as why
from .._drivers import driver_of
from .._ids.catalogue import ColumnFacts
from .._sqlalchemy.mapping import casts_each, insert_cast
from .model_types import (
    INTEGERS,
    STRINGS,
    Modelled,
    Refusal,
    bare_name,
    is_enum_of,
    is_type_of_ddl,
    mismatch,
    size_of,
)

if TYPE_CHECKING:
    from .column_checks import Check


@dataclass(frozen=True, slots=True)
class Codec:
    """The values that one column accepts through COPY.

    :param oid: the type that a driver with a binary format writes.
    :param binary: exact Python types that are written in binary format.
    :param text: exact Python types that are written in text format.
    :param check: a further condition for the values; ``text_check``: if they fail that one, the
        condition under which they go in text format.
    :param convert: makes a value of a further type exact first.
    :param kinds: the same for all subclasses of a type, tried in this order.
    :param as_utc: whether an aware time becomes a naive one, as the server does it in a session in
        UTC.
    :param inner: the types within values that contain others.
    :param beside: further types that may be mixed with the ``binary`` ones: PostgreSQL reads each
        the same in a mixture as alone.
    :param casts_each: whether INSERT casts each value separately; if not, how a value is cast may
        depend on the others.
    :param is_own: whether the column has the type that DDL makes of the model's type.
    """

    oid: int
    binary: frozenset[type] = frozenset()
    text: frozenset[type] = frozenset()
    check: Check | None = None
    convert: Mapping[type, Callable[[Any], Any]] = field(default_factory=dict)
    kinds: tuple[tuple[type, Callable[[Any], Any] | None], ...] = ()
    text_check: Check | None = None
    as_utc: bool = False
    inner: Callable[[Sequence[Any]], set[type]] | None = None
    beside: frozenset[type] = frozenset()
    casts_each: bool = False
    is_own: bool = False

    def mixes(self, types: Iterable[type]) -> bool:
        """Whether an INSERT of several rows treats values of these types alike."""
        if self.casts_each:
            return True
        kinds = set(map(self._kind, types)) - {NoneType}
        return len(kinds) < 2 or kinds <= (self.binary or self.text) - {str} | self.beside

    def takes(self, values: Sequence[Any]) -> bool:
        """Whether every form of INSERT stores the same for these values, which no processor
        changes.
        """
        types = set(map(type, values)) - {NoneType}
        if self.casts_each or not types:
            return True
        known = self.binary | self.text | self.convert.keys()
        if not self.mixes(types) or not set(map(self._kind, types)) <= known:
            return False
        if self.as_utc and types == {dt.datetime}:
            return len({value.tzinfo is None for value in values if value is not None}) == 1
        return self.accepts(values, {*types, NoneType})

    def _kind(self, type_: type) -> type:
        """Return the type that stands for a subclass in the driver."""
        if type_ is bool or type_ in self.binary or type_ in self.text:
            return type_
        return next((base for base, _ in self.kinds if issubclass(type_, base)), type_)

    def accepts(self, values: Sequence[Any], types: set[type]) -> bool:
        """Whether the column accepts all values, which are of these types, as they are. A ``str``
        for a column of another type than text is parsed by the server.
        """
        return self.check is None or self.check(self._concerned(values, types))

    def accepts_as_text(self, values: Sequence[Any], types: set[type]) -> bool:
        """Whether they are accepted in text format, if :meth:`accepts` refuses them."""
        return self.text_check is not None and self.text_check(self._concerned(values, types))

    def _concerned(self, values: Sequence[Any], types: set[type]) -> Sequence[Any]:
        is_text = str in self.binary or self.text == {str}
        passed_over = {NoneType} if is_text else {NoneType, str}
        if types.isdisjoint(passed_over):
            return values
        return [value for value in values if type(value) not in passed_over]

    def converter(self, type_: type) -> Callable[[Any], Any] | None:
        """Return the function that makes a value of this type exact; ``None`` if there is none, or
        the type is exact.
        """
        if type_ in self.binary or (type_ in self.text and type_ not in self.convert):
            return None
        if type_ in self.convert:
            return self.convert[type_]
        if type_ is not bool:
            for base, convert in self.kinds:
                if issubclass(type_, base):
                    return convert
        return None


class ValueTable(Protocol):
    """A driver's table of the values that its COPY writes as its INSERT does. ``in_domains``: the
    types it knows in a DOMAIN.
    """

    in_domains: frozenset[str]

    def scalar(self, modelled: Modelled) -> Codec: ...
    def array(self, modelled: Modelled) -> Codec: ...
    def sends_bytes(self, connection: Connection) -> bool:
        """Whether bytes reach the server unchanged, whatever the user has registered."""

    def frames(self, codec: Codec, values: Sequence[Any]) -> bool:
        """Whether values that would go as text are sent in binary format if a
        :class:`~sqla_seqreserve.CopyCodec` made values of the same rows.
        """

    def writes_as_text(self, codec: Codec, values: Sequence[Any]) -> bool:
        """Whether COPY in text format writes these values as it does in binary format, for rows in
        which another column has no binary format.
        """

    def adapted_otherwise(
        self, connection: Connection, codec: Codec, types: Iterable[type]
    ) -> type | None:
        """Return a type that the connection's adapters, or the global ones, treat differently from
        the driver's own.
        """

    def unwrapped(
        self, connection: Connection, values: Sequence[Any], cast: str | None
    ) -> Sequence[Any]:
        """Return the values without the wrappers that the driver, or SQLAlchemy for it, put around
        them.

        :param cast: the type to which SQLAlchemy casts each value, as SQL: values that it would
            read differently without the wrapper stay as they are.
        """


BYTES: Final = 17
"""The oid of ``bytea``."""

IN_DOMAINS: Final = frozenset(
    {
        *INTEGERS,
        *(STRINGS - {"citext"}),
        *("bool", "date", "float8", "interval", "numeric", "time", "timestamp", "timestamptz"),
    }
)
"""For other types, how a driver writes their values depends on the type of the model."""


def value_table(dialect: Dialect) -> ValueTable | None:
    """Return the table of values of the driver behind ``dialect``; ``None``: no COPY on this
    driver.
    """
    driver = driver_of(dialect)
    return None if driver is None else _table(driver.types)


@cache
def _table(types: str) -> ValueTable:
    table: ValueTable = import_module(f".{types}_values", __package__).TABLE
    return table


def codec_for(type_: TypeEngine[Any], column: ColumnFacts, dialect: Dialect) -> Codec | Refusal:
    """Return the codec of a column, from its type in the model and in the database; or the reason
    why COPY cannot write it.
    """
    table = value_table(dialect)
    if table is None:
        return Refusal(why.no_fast_path(dialect.driver), False)
    if column.is_unknown_domain:
        return Refusal(why.domain_over_domain(column.name), False)
    implementation = _implementation(type_, dialect)
    domain = implementation if isinstance(implementation, DOMAIN) else None
    try:
        cast = insert_cast(domain.data_type if domain else type_, dialect).lower()
    except SQLAlchemyError:
        return Refusal(why.no_model_type(column.name), False)
    modelled = Modelled(bare_name(cast), size_of(cast), column)
    if domain is not None:
        found = _of_domain(table, modelled, domain)
    else:
        found = _found(table, modelled, implementation)
    each = casts_each(type_, dialect)
    if isinstance(found, Refusal):
        return replace(found, casts=not each)
    return replace(found, casts_each=each, is_own=is_type_of_ddl(modelled))


def _found(table: ValueTable, modelled: Modelled, implementation: Any) -> Codec | Refusal:
    column = modelled.column
    if column.element_type is not None:
        return _array(table, modelled, implementation)
    if column.is_enum:
        if isinstance(implementation, Enum) and is_enum_of(implementation, column.type_text):
            return table.scalar(modelled)
        return Refusal(why.other_type(column.name, modelled.name, column.type_text))
    return mismatch(modelled, column.type_name) or table.scalar(modelled)


def _of_domain(table: ValueTable, modelled: Modelled, domain: DOMAIN) -> Codec | Refusal:
    """Return the codec of a DOMAIN, which has no processor. INSERT of several rows cuts text
    off.
    """
    column = modelled.column
    if domain.name != column.domain:
        stored = column.domain or column.type_text
        return Refusal(why.other_type(column.name, str(domain.name), stored))
    if column.type_name not in table.in_domains:
        return Refusal(why.type_below_domain(column.name, column.type_text))
    found = mismatch(modelled, column.type_name)
    if found is not None:
        return found
    codec = replace(table.scalar(modelled), convert={}, kinds=())
    size = size_of(column.type_text)
    if column.type_name in STRINGS and size:
        longest = int(size)
        return replace(codec, check=lambda values: max(map(len, values), default=0) <= longest)
    return codec


def _array(table: ValueTable, modelled: Modelled, implementation: Any) -> Codec | Refusal:
    column, element = modelled.column, modelled.column.element_type
    assert element is not None
    if not isinstance(implementation, ARRAY) or not modelled.name.endswith("[]"):
        return Refusal(why.other_type(column.name, modelled.name, f"{element}[]"))
    inner = Modelled(modelled.name.rstrip("[]"), modelled.size, column)
    if column.element_is_enum:
        item = implementation.item_type
        if isinstance(item, Enum) and is_enum_of(item, column.type_text):
            return table.array(inner)
        return Refusal(why.other_type(column.name, modelled.name, column.type_text))
    return mismatch(inner, element) or table.array(inner)


def _implementation(type_: TypeEngine[Any], dialect: Dialect) -> Any:
    implementation = type_.dialect_impl(dialect)
    return getattr(implementation, "impl_instance", implementation)


def is_uniform(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether SQLAlchemy turns all values of the type into values of one type, whatever they
    are.
    """
    return isinstance(_implementation(type_, dialect), Boolean | Enum | JSON)
