"""The options of a sequence: type, start, increment, bounds, cache and cycle. Pure: no database.

A declared sequence leaves most of these open, a sequence in the catalogue states them all;
:func:`compare_options` returns the changes that turn the second into what the first declares. An
open data type means "as found", because a sequence of a SERIAL column has the column's type; any
other open option means PostgreSQL's default.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Identity, Integer, Sequence, SmallInteger

_LIMITS = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """The options of one sequence; ``None`` stands for an open option."""

    data_type: str | None = None
    start: int | None = None
    increment: int | None = None
    minvalue: int | None = None
    maxvalue: int | None = None
    cache: int | None = None
    cycle: bool | None = None

    @classmethod
    def declared_by(cls, item: Sequence | Identity) -> SequenceOptions:
        """The options of a :class:`~sqlalchemy.Sequence` or :class:`~sqlalchemy.Identity`."""
        return cls(
            data_type=type_name(getattr(item, "data_type", None)),
            start=item.start,
            increment=item.increment,
            minvalue=item.minvalue,
            maxvalue=item.maxvalue,
            cache=item.cache,
            cycle=item.cycle,
        )

    @property
    def descending(self) -> bool:
        return self.increment is not None and self.increment < 0

    def filled(self, data_type: str | None = None) -> SequenceOptions:
        """Return the options with every open one replaced by PostgreSQL's default."""
        data_type = self.data_type or data_type or "bigint"
        lowest, highest = _LIMITS[data_type]
        minvalue = lowest if self.descending else 1
        maxvalue = -1 if self.descending else highest
        minvalue = minvalue if self.minvalue is None else self.minvalue
        maxvalue = maxvalue if self.maxvalue is None else self.maxvalue
        start = maxvalue if self.descending else minvalue
        return SequenceOptions(
            data_type=data_type,
            start=start if self.start is None else self.start,
            increment=1 if self.increment is None else self.increment,
            minvalue=minvalue,
            maxvalue=maxvalue,
            cache=1 if self.cache is None else self.cache,
            cycle=bool(self.cycle),
        )

    def trimmed(self) -> SequenceOptions:
        """Return the options with every one open that equals PostgreSQL's default."""
        full = self.filled()
        increment = None if full.increment == 1 else full.increment
        default = SequenceOptions(data_type=full.data_type, increment=increment).filled()
        trimmed = SequenceOptions(
            data_type=None if full.data_type == "bigint" else full.data_type,
            increment=increment,
            minvalue=None if full.minvalue == default.minvalue else full.minvalue,
            maxvalue=None if full.maxvalue == default.maxvalue else full.maxvalue,
            cache=None if full.cache == 1 else full.cache,
            cycle=full.cycle or None,
        )
        start = None if full.start == trimmed.filled().start else full.start
        return replace(trimmed, start=start)

    def given(self) -> dict[str, Any]:
        """The options that are not left open, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_sequence(self, name: str, schema: str | None = None) -> Sequence:
        """A :class:`~sqlalchemy.Sequence` of that name with these options, without a metadata."""
        options = self.given()
        if self.data_type is not None:
            options["data_type"] = sqlalchemy_type(self.data_type)
        return Sequence(name, schema=schema, **options)


@dataclass(frozen=True, slots=True)
class OptionChanges:
    """Arguments of ``op.alter_sequence`` that lead to the declared options, and back."""

    forward: dict[str, Any]
    backward: dict[str, Any]


def compare_options(declared: SequenceOptions, found: SequenceOptions) -> OptionChanges | None:
    """Return the changes that turn ``found`` into ``declared``; ``None`` if they are equal
    already.
    """
    want, have = declared.filled(found.data_type), found.filled()
    changed = [name for name, value in asdict(want).items() if value != getattr(have, name)]
    if not changed:
        return None
    forward = {name: getattr(want, name) for name in changed} | _bounds_to_give(have, want)
    backward = {name: getattr(have, name) for name in changed} | _bounds_to_give(want, have)
    for bound in ("minvalue", "maxvalue"):
        # Each must be the reverse of the other; what only one of them needs changes nothing there.
        if (bound in forward) != (bound in backward):
            forward.setdefault(bound, getattr(want, bound))
            backward.setdefault(bound, getattr(have, bound))
    if want.descending != have.descending:
        # The position lies outside the new bounds whenever these are the default ones.
        forward["restart"], backward["restart"] = want.start, have.start
    return OptionChanges(forward, backward)


def _bounds_to_give(old: SequenceOptions, new: SequenceOptions) -> dict[str, int | None]:
    """Return the bounds that ``ALTER SEQUENCE`` needs, to turn the old options into the new;
    ``None`` for a bound that is removed.

    If the statement changes the type, PostgreSQL moves a bound that was the old type's limit to the
    new type's, even if an ascending sequence gets ``NO MINVALUE``, or a descending one ``NO
    MAXVALUE``. Such a bound is given as a number.
    """
    default = replace(new, start=None, minvalue=None, maxvalue=None).filled()
    given: dict[str, int | None] = {}
    for side, bound in enumerate(("minvalue", "maxvalue")):
        before, after = getattr(old, bound), getattr(new, bound)
        moved = old.data_type != new.data_type and before == _limits_of(old)[side]
        if moved and after != _limits_of(new)[side]:
            given[bound] = after
        elif after != before:
            given[bound] = None if after == getattr(default, bound) else after
    return given


def _limits_of(options: SequenceOptions) -> tuple[int, int]:
    return _LIMITS[options.data_type or "bigint"]


def type_name(data_type: Any) -> str | None:
    """Return PostgreSQL's name of an integer type given as SQLAlchemy's type or class, ``None`` for
    any other.
    """
    if data_type is None or isinstance(data_type, str):
        return data_type
    kind = data_type if isinstance(data_type, type) else type(data_type)
    if issubclass(kind, BigInteger):
        return "bigint"
    if issubclass(kind, SmallInteger):
        return "smallint"
    return "integer" if issubclass(kind, Integer) else None


def sqlalchemy_type(name: str) -> Integer:
    """The SQLAlchemy type of PostgreSQL's ``smallint``, ``integer`` or ``bigint``."""
    return {"smallint": SmallInteger, "integer": Integer, "bigint": BigInteger}[name]()
