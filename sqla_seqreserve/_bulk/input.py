"""Rows of every shape as chunks of rows that can be counted.

=============================== ===================================================================
shape                           what a chunk is
=============================== ===================================================================
iterable of mappings            a list of dictionaries, attribute key -> value
mapping of columns              :class:`ColumnRows`: attribute key -> list, tuple, array or Series
Arrow C stream (pyarrow,        :class:`ColumnRows`, read batch by batch; through pyarrow
polars, pandas, duckdb, ...)
=============================== ===================================================================

What is held in memory as a whole (a list, columns) is one chunk unless ``chunk_rows`` says
otherwise, so that all of it is checked before any of it is written. A stream comes in chunks.

A two-dimensional array, or a column of lists of one length, that is for a column of vectors stays
as it is: each row has a one-dimensional array, and no number becomes an object of Python's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy.orm import Mapper, Session

from .._rows.table import ColumnRows
from .._sqlalchemy.savepoint import transaction_of
from ..copy_codecs._choice import has_codec
from ..errors import ConfigurationError, InvalidRowsError, RowProblem
from .gaps import Gaps, in_microseconds


class HasList(Protocol):
    """A column of numpy or pandas."""

    def tolist(self) -> Any:
        """Return Python's own values."""
        ...


class HasPolarsList(Protocol):
    """A column of polars."""

    def to_list(self) -> Any:
        """Return Python's own values."""
        ...


class HasArrowList(Protocol):
    """A column of pyarrow."""

    def to_pylist(self) -> Any:
        """Return Python's own values."""
        ...


class HasArrowStream(Protocol):
    """A table or frame of pyarrow, polars, pandas, duckdb and others."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the rows through the Arrow C stream interface."""
        ...


Rows: TypeAlias = (
    Iterable[Mapping[str, Any]]
    | Mapping[str, Sequence[Any]]
    | Mapping[str, HasList]
    | Mapping[str, HasPolarsList]
    | Mapping[str, HasArrowList]
    | HasArrowStream
)
"""Mappings of attribute key to value; columns by attribute key, as sequences or as arrays of numpy,
pandas, polars and pyarrow; or anything with the Arrow C stream interface.
"""

Chunk: TypeAlias = Sequence[Mapping[str, Any]]

STREAMED: Final = 20_000
"""The number of rows in a chunk of a stream, unless the caller sets another: some megabytes."""


def chunks(rows: Any, chunk_rows: int | None, mapper: Mapper[Any]) -> Iterator[Chunk]:
    """Divide the rows into chunks, in their order.

    :param mapper: the mapper of the rows' class.
    :raises ConfigurationError: ``chunk_rows`` is not a number of rows, or ``rows`` cannot hold
        rows.
    :raises InvalidRowsError: columns differ in length.
    """
    check_chunk_rows(chunk_rows)
    if isinstance(rows, Mapping):
        return _parts(_by_column(rows, mapper), chunk_rows)
    if hasattr(rows, "__arrow_c_stream__"):
        return _arrow(rows, chunk_rows or STREAMED, mapper)
    if isinstance(rows, list | tuple | ColumnRows):
        return parts_of(rows, chunk_rows)
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise ConfigurationError(
            "rows must be an iterable of mappings, a mapping of columns or have the Arrow C stream "
            f"interface, found {type(rows).__name__}"
        )
    return _streamed(iter(rows), chunk_rows or STREAMED)


def check_chunk_rows(chunk_rows: object) -> None:
    """Refuse a value that is not a number of rows.

    :raises ConfigurationError: naming the value.
    """
    if chunk_rows is not None and (type(chunk_rows) is not int or chunk_rows < 1):
        raise ConfigurationError(f"chunk_rows must be an int of 1 or more, found {chunk_rows!r}")


def given_by(rows: Chunk) -> frozenset[str]:
    """Return the attributes that the first row gives; every other row must give the same."""
    if isinstance(rows, ColumnRows):
        return frozenset(rows.columns)
    found: Any = rows[0]
    return frozenset(found) if isinstance(found, Mapping) else frozenset()


def within(session: Session, rows: Any, stream: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks, and check that the code that produces ``rows`` does not change the
    session's transaction.

    :raises ConfigurationError: that code ended the transaction, or began a savepoint that is still
        open.
    """
    transaction = transaction_of(session)
    for chunk in stream:
        _check_transaction(session, transaction, rows)
        yield chunk
    _check_transaction(session, transaction, rows)


def _check_transaction(session: Session, transaction: object, rows: Any) -> None:
    if transaction_of(session) is transaction:
        return
    if isinstance(rows, Generator):
        # A savepoint that the producer began must end before those around it.
        rows.close()
    raise ConfigurationError(
        "The rows are made by something that commits or rolls back the session's transaction, or "
        "holds a savepoint open while it gives rows. They are written in that transaction: "
        "expected rows that leave it as it is. Use another session there, or call this function "
        "for each part of the rows"
    )


def parts_of(rows: Sequence[Any], chunk_rows: int | None) -> Iterator[Chunk]:
    """Yield rows that are held in memory, in parts of at most ``chunk_rows``."""
    return _parts(rows if isinstance(rows, ColumnRows) else _as_dictionaries(rows), chunk_rows)


def _parts(rows: Chunk, chunk_rows: int | None) -> Iterator[Chunk]:
    if chunk_rows is None or len(rows) <= chunk_rows:
        return iter([rows] if len(rows) else [])
    return (rows[start : start + chunk_rows] for start in range(0, len(rows), chunk_rows))


def _streamed(rows: Iterator[Any], chunk_rows: int) -> Iterator[Chunk]:
    while chunk := list(islice(rows, chunk_rows)):
        yield _as_dictionaries(chunk)


def _as_dictionaries(rows: Sequence[Any]) -> Chunk:
    """Turn other mappings into dictionaries; an item that is not a mapping stays, so that the check
    can name it.
    """
    if set(map(type, rows)) == {dict}:
        return rows
    return [dict(row) if isinstance(row, Mapping) else row for row in rows]


def _by_column(columns: Mapping[str, Any], mapper: Mapper[Any]) -> ColumnRows:
    vectors = _vectors(mapper)
    held = {
        key: list(values)
        if key in vectors and getattr(values, "ndim", None) == 2
        else _listed(key, values)
        for key, values in columns.items()
    }
    gaps = Gaps(mapper)
    held = {key: gaps.marked(key, values, columns[key]) for key, values in held.items()}
    lengths = {key: len(values) for key, values in held.items()}
    length = max(lengths.values(), default=0)
    short = [key for key in lengths if lengths[key] != length]
    if short:
        raise InvalidRowsError(
            "Columns must have one length; nothing was reserved or written",
            [
                RowProblem(lengths[key], key, f"has no value: {lengths[key]} of {length}")
                for key in short
            ],
        )
    return ColumnRows(held, length)


def _vectors(mapper: Mapper[Any]) -> set[str]:
    """Return the attributes whose values may be arrays."""
    return {prop.key for prop in mapper.column_attrs if has_codec(prop.columns[0].type)}


_LISTING: Final = ("tolist", "to_list", "to_pylist")
"""Methods that return a column's values as plain Python values: of numpy and pandas, polars,
pyarrow.
"""


def _listed(key: str, values: Any) -> Sequence[Any]:
    if isinstance(values, list | tuple):
        return values
    is_series = hasattr(values, "isna")
    if not is_series:
        values = in_microseconds(values)
    listing = next(filter(None, (getattr(values, name, None) for name in _LISTING)), None)
    if listing is not None:
        found = listing()
        if isinstance(found, list):
            if is_series:
                # pandas has several markers for a missing value.
                gaps = values.isna()
                if gaps.any():
                    return [None if gap else value for value, gap in zip(found, gaps, strict=True)]
            return found
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)
    raise ConfigurationError(
        f"Column {key!r} must be a sequence of values, found {type(values).__name__}"
    )


def _arrow(table: Any, chunk_rows: int, mapper: Mapper[Any]) -> Iterator[Chunk]:
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Reading {type(table).__name__} through the Arrow C stream interface takes pyarrow, "
            "which is not installed: pip install pyarrow"
        ) from error
    try:
        reader = pa.RecordBatchReader.from_stream(table)
    except pa.ArrowInvalid as error:
        raise ConfigurationError(
            f"rows must be a table, found {type(table).__name__}, which is a single column"
        ) from error
    mapped = {prop.key for prop in mapper.column_attrs}
    names = reader.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"The table has several columns named {', '.join(map(repr, twice))}. Expected one of "
            "each name"
        )
    unnamed, ranges = _pandas_indexes(reader.schema)
    left_out = unnamed.difference(mapped)
    added = {name: ranges[name] for name in mapped.intersection(ranges).difference(names)}
    vectors, gaps = _vectors(mapper), Gaps(mapper)
    done = 0
    for batch in reader:
        for start in range(0, batch.num_rows, chunk_rows):
            part = batch.slice(start, chunk_rows)
            columns: dict[str, Sequence[Any]] = {
                name: _arrays(pa, column)
                if name in vectors
                else gaps.marked(name, column.to_pylist(), column)
                for name, column in zip(names, part.columns, strict=True)
                if name not in left_out
            }
            for name, values in added.items():
                columns[name] = list(values[done : done + part.num_rows])
            done += part.num_rows
            yield ColumnRows(columns, part.num_rows)


def _arrays(pa: Any, column: Any) -> list[Any]:
    """Return vectors as one-dimensional arrays in the column's own memory, if all have the same
    length and no number is missing; else as lists.
    """
    kind = column.type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow's
    numbers = column.flatten()
    if numbers.null_count or not kind.list_size:
        return column.to_pylist()  # type: ignore[no-any-return]  # as above
    rows = iter(numbers.to_numpy().reshape(-1, kind.list_size))
    if not column.null_count:
        return list(rows)
    return [next(rows) if is_given else None for is_given in column.is_valid().to_pylist()]


def _pandas_indexes(schema: Any) -> tuple[set[str], dict[str, range]]:
    """Return the columns that are a pandas frame's index (the index of a frame that was filtered or
    sorted has no name); and the indexes that are ranges, which the schema describes without sending
    their values.
    """
    found = (schema.pandas_metadata or {}).get("index_columns", ())
    stored = {item for item in found if isinstance(item, str)}
    ranges = {
        item["name"]: range(item["start"], item["stop"], item["step"])
        for item in found
        if not isinstance(item, str) and item.get("kind") == "range" and item["name"] is not None
    }
    return stored, ranges
