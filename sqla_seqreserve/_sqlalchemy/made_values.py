"""Passes values that the types' bind processors have made already to a statement that binds them.

A statement's processors are memoized with it, and the statement with the cache of compiled
statements: a statement with processors of its own is a copy from that cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper


class MadeValues:
    """Bind processors that return the values that the types' own processors made of the same rows
    before, one row after the other. A value that differs by now (a listener may have replaced it)
    is processed again.

    :param columns: for each parameter with a processor: the processor, the rows' values, and its
        results.
    """

    def __init__(
        self,
        columns: Mapping[str, tuple[Callable[[Any], Any], Sequence[Any], Sequence[Any]]],
    ) -> None:
        self.processors = {name: _handing_out(*column) for name, column in columns.items()}


def _handing_out(
    process: Callable[[Any], Any], given: Sequence[Any], made: Sequence[Any]
) -> Callable[[Any], Any]:
    pairs = zip(given, made, strict=True)

    def processor(value: Any) -> Any:
        for before, result in pairs:
            return result if value is before else process(value)
        return process(value)

    return processor


class _Made:
    """A cache of compiled statements, each given out as a copy with processors of its own: those of
    a statement are memoized with it.
    """

    __slots__ = ("cache", "processors")

    def __init__(self, cache: Any, made: MadeValues) -> None:
        self.cache = cache
        self.processors = made.processors

    def get(self, key: Any) -> Any:
        found = self.cache.get(key)
        return None if found is None else self.own(copy(found))

    def __setitem__(self, key: Any, compiled: Any) -> None:
        self.cache[key] = copy(compiled)
        self.own(compiled)

    def own(self, compiled: Any) -> Any:
        compiled.__dict__["_bind_processors"] = self.processors
        return compiled


def compiled_cache(of: Mapper[Any] | Connection, made: MadeValues | None) -> Any:
    """The cache of compiled statements of a base mapper, or of a connection's engine, for an
    execution with values that are ``made``.
    """
    cache: Any
    if isinstance(of, Connection):
        cache = of.get_execution_options().get("compiled_cache", of.engine._compiled_cache)
        if made is not None and cache is None:
            cache = {}
    else:
        base_mapper: Mapper[Any] = of
        cache = base_mapper._compiled_cache
    return cache if made is None else _Made(cache, made)
