"""Explains how the next flush would write each class: ``print(registration.explain(engine))``.

It asks the same questions as a flush (``_flush.routing``), but reads the facts of the tables anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, overload

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._database import known_of
from .._drivers import driver_on, transaction_status
from .._ids import catalogue
from .._ids.keys import KeySequence, generated_key, resolve
from .._ids.reserve import hindrance
from .._ids.server import server_of
from .._ids.table_names import table_name
from .._reasons import Reason
from .._routes import Distance
from .._rows.refusals import foreseen_reason
from .._sqlalchemy.executed import returns_each_update
from .._sqlalchemy.listeners import execution_elsewhere, interference_on
from .._sqlalchemy.statements import StatementKind
from .._writers.executemany import table_reason
from .._writers.many_costs import fewest_together
from ..reports import Writer
from .commit_along import commit_hindrance
from .routing import (
    copy_from,
    copy_way,
    hierarchy_reason,
    is_distributed,
    plain_tables,
)
from .settings import Settings
from .way import NOT_ENROLLED, Way

_WIDTH: Final = 80


@dataclass(frozen=True, slots=True)
class Explanation:
    """How the next flush would write objects of one class whose keys and defaults come from the
    model and the database.

    Single objects may be written differently because of their values: the FlushReport says so.

    :param model: the mapped class.
    :param path: who writes ``copy_from`` rows of the class and more, or many rows if COPY cannot:
        see :data:`~sqla_seqreserve.reports.Writer`.
    :param sequence: the sequence that its ids come from, or the default that is evaluated for them
        (``gen_random_uuid()``), as SQL.
    :param reason: why COPY does not write the class; or, if COPY does, why no id is reserved, or
        what it costs that Citus distributes the table.
    :param copy_from: the number of rows from which COPY writes the class if it is alone in its
        flush, on this driver and at the distance to the server that is known now; ``None``: never.
        Fewer rows go by INSERT, which is cheaper.
    :param remedy: what can be done about the reason.
    :param many_from: the number of rows from which changed objects, and deleted objects, are
        written by one statement for all rows of a kind (UPDATE, DELETE), if their values allow it;
        ``None``: never. Fewer are sent as SQLAlchemy sends them, which is cheaper.
    :param many_reason: why not; if ``many_from`` is a number, the reason concerns only UPDATE or
        only DELETE, and says which.
    :param many_remedy: what can be done about ``many_reason``.
    :param round_trip: seconds to the server and back, which ``copy_from`` and ``many_from`` assume;
        ``None``: not measured yet, and the two numbers are for a server 0.3 ms away. The first
        flushes of an engine measure it.
    """

    model: type[Any]
    path: Writer
    sequence: str | None
    reason: str | None
    copy_from: int | None = None
    remedy: str | None = None
    many_from: int | None = None
    many_reason: str | None = None
    many_remedy: str | None = None
    round_trip: float | None = None


class Explanations(Sequence[Explanation]):
    """The explanations of several classes; ``str()`` formats them as a table.

    ``commit_reason``: why the COMMIT of ``commit()`` takes a round trip of its own; ``None``: it
    travels with the last message of its flush, unless the statement of an object prevents it.
    """

    def __init__(
        self,
        explanations: Iterable[Explanation],
        round_trip: str | None = None,
        commit_reason: Reason | None = None,
    ) -> None:
        self._explanations = tuple(explanations)
        self.commit_reason = None if commit_reason is None else commit_reason.text
        self._round_trip = round_trip
        """The round trip in words; ``None`` if nothing depends on it."""

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Explanation]: ...
    def __getitem__(self, index: int | slice) -> Explanation | Sequence[Explanation]:
        return self._explanations[index]

    def __len__(self) -> int:
        return len(self._explanations)

    def __repr__(self) -> str:
        return f"Explanations({list(self._explanations)!r})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        """One line for each class, with its sentences below."""
        rows = [("class", "path", "copy from", "many from", "sequence")]
        rows += [
            (
                item.model.__name__,
                item.path,
                "-" if item.copy_from is None else f"{item.copy_from:,}",
                "-" if item.many_from is None else f"{item.many_from:,}",
                item.sequence or "-",
            )
            for item in self._explanations
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        fits = sum(widths) + 2 * 4 <= _WIDTH
        for number, (name, path, *numbers, sequence) in enumerate(rows):
            cells = [name.ljust(widths[0]), path.ljust(widths[1])]
            cells += [text.rjust(width) for text, width in zip(numbers, widths[2:4], strict=True)]
            yield "  ".join([*cells, sequence] if fits else cells).rstrip()
            if number == 0:
                continue
            item = self._explanations[number - 1]
            if not fits and item.sequence is not None:
                yield from _below("sequence", item.sequence)
            if item.reason is not None:
                yield from _below("why", item.reason)
            if item.remedy is not None:
                yield from _below("remedy", item.remedy)
            if item.many_reason is not None and item.many_reason != item.reason:
                yield from _below("why not many", item.many_reason)
                if item.many_remedy is not None:
                    yield from _below("remedy", item.many_remedy)
        counts = {item.copy_from or item.many_from for item in self._explanations}
        if counts != {None}:
            yield ""
            if self._round_trip is not None:
                yield f"round trip to the server: {self._round_trip}"
            along = "with the last message of a flush"
            reason = self.commit_reason
            yield from textwrap.wrap(
                f"COMMIT: {along if reason is None else f'by itself: {reason}'}",
                _WIDTH,
                subsequent_indent=" " * 8,
            )


def _below(title: str, words: str) -> list[str]:
    """The lines of a sentence below the line of a class; no word is split."""
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=f"    {title}: ",
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def explain(
    connection: Connection,
    mappers: Sequence[Mapper[Any]],
    settings: Settings,
    session_reason: Reason | None,
    commit: Reason | None,
) -> Explanations:
    """Explain each class on this connection's database.

    If no transaction was begun before the call, none is open after it.

    :param session_reason: why no session of the registration uses COPY.
    :param commit: why no session's COMMIT travels along, as far as the session decides.
    """
    if connection.dialect.name != "postgresql":
        reason = why.not_postgresql(connection.dialect.name)
        return Explanations(_explanation(mapper, "orm", None, reason) for mapper in mappers)
    begun = connection.in_transaction()
    state = transaction_status(connection)
    try:
        foreign = server_of(connection).reason
        if foreign is not None:
            return Explanations(_explanation(mapper, "orm", None, foreign) for mapper in mappers)
        keys = [generated_key(mapper).table for mapper in mappers]
        tables = [table for mapper in mappers for table in mapper.tables]
        catalogue.renew(
            connection,
            [
                table_name(connection, table)
                for table in dict.fromkeys([*keys, *tables])
                if isinstance(table, Table)
            ],
        )
        sources = resolve(connection, mappers)
        if begun:
            state = transaction_status(connection)
        distance = known_of(connection.dialect, Distance)
        found = [
            _explain_one(connection, mapper, sources[mapper], settings, state, session_reason)
            for mapper in mappers
        ]
        round_trip = distance.round_trip / 1e6 if distance.is_measured else None
        return Explanations(
            [
                replace(
                    each,
                    **_explain_many(connection, mapper, settings, hindrance(connection, state)),
                    round_trip=round_trip,
                )
                for each, mapper in zip(found, mappers, strict=True)
            ],
            _in_words(round_trip) if settings.copy_min_rows is None else None,
            commit
            or commit_hindrance(connection, settings)
            or (None if distance.commit_pays() else why.NEAR),
        )
    finally:
        if not begun:
            connection.rollback()


def _explain_one(
    connection: Connection,
    mapper: Mapper[Any],
    source: KeySequence,
    settings: Settings,
    state: str,
    session_reason: Reason | None,
) -> Explanation:
    way = _way(connection, mapper, source, settings, state, session_reason)
    is_ours = settings.mode != "off" and settings.enrols(mapper)
    sequence = ", ".join(part.origin for part in source.parts) if is_ours else None
    if way.reason is not None:
        return _explanation(mapper, way.writer, sequence or None, way.reason)
    notes = []
    if source.reason is not None and not _makes_keys(mapper):
        notes.append(why.not_reserved(source.reason))
    if is_distributed(connection, mapper):
        notes.append(why.DISTRIBUTED)
    # If keys are always reserved and INSERT refuses them, COPY writes the class from one row on.
    always = source.refuses_keys and settings.reserve == "always"
    return Explanation(
        mapper.class_,
        way.writer,
        sequence or None,
        "; ".join(note.text for note in notes) or None,
        1 if always else copy_from(settings, connection, mapper, begun=state == "open"),
    )


def _way(
    connection: Connection,
    mapper: Mapper[Any],
    source: KeySequence,
    settings: Settings,
    state: str,
    session_reason: Reason | None,
) -> Way:
    """The way to write very many objects of a class, apart from what depends on their values."""
    reason = session_reason if settings.mode != "off" else None
    reason = reason or hierarchy_reason(settings, mapper.base_mapper, connection, interference_on)
    if reason is not None:
        return Way("orm", reason)
    if not settings.enrols(mapper):
        return NOT_ENROLLED
    reason = hindrance(connection, state)
    if reason is not None:
        return Way("orm", reason)
    names = {table: table_name(connection, table) for table in plain_tables(mapper)}
    facts = catalogue.table_facts(connection, names.values())
    return copy_way(connection, mapper, names, facts, lambda plan: foreseen_reason(plan, source))


def _explanation(
    mapper: Mapper[Any], path: Writer, sequence: str | None, reason: Reason
) -> Explanation:
    return Explanation(mapper.class_, path, sequence, reason.text, None, reason.remedy)


def _makes_keys(mapper: Mapper[Any]) -> bool:
    """Whether the model makes the keys of its objects, so that no key must be reserved."""
    return all(
        column.default is not None and (column.default.is_callable or column.default.is_scalar)
        for column in mapper.primary_key
    )


def _in_words(round_trip: float | None) -> str:
    if round_trip is None:
        return "not measured yet, 0.3 ms is assumed"
    return f"{round_trip * 1_000:.1f} ms"


def _explain_many(
    connection: Connection, mapper: Mapper[Any], settings: Settings, held: Reason | None
) -> dict[str, Any]:
    """The ``many_*`` fields of an explanation: from how many rows one statement writes changed and
    deleted objects of a class, or why none does.
    """
    driver = driver_on(connection)
    reason = _reason_of_many(connection, settings, held)
    reasons: dict[StatementKind, Reason | None] = {"update": reason, "delete": reason}
    if reason is None:
        reasons["update"] = _mapper_reason(mapper)
        names = [table_name(connection, table) for table in plain_tables(mapper)]
        for facts in catalogue.table_facts(connection, names).values():
            for kind, known in reasons.items():
                if facts is None:
                    reasons[kind] = known or why.NO_TABLE
                else:
                    reasons[kind] = known or table_reason(facts, kind)
    given = list(dict.fromkeys(found for found in reasons.values() if found is not None))
    remedies = dict.fromkeys(found.remedy for found in given)
    sentences = [found.text for found in given]
    if len(set(reasons.values())) > 1:
        sentences = [
            f"{kind.upper()}: {found.text}" for kind, found in reasons.items() if found is not None
        ]
    fewest = settings.copy_min_rows
    if None in reasons.values():
        assert driver is not None
        if fewest is None:
            fewest = fewest_together(driver, known_of(connection.dialect, Distance).round_trip)
        else:
            # A single row always has its own statement.
            fewest = max(fewest, 2)
    else:
        fewest = None
    return {
        "many_from": fewest,
        "many_reason": "; ".join(sentences) or None,
        "many_remedy": "; ".join(remedies) or None,
    }


def _reason_of_many(
    connection: Connection, settings: Settings, held: Reason | None
) -> Reason | None:
    """Why rows never travel together on a connection; ``None`` if they may."""
    if settings.mode_reason is not None:
        return settings.mode_reason
    driver = driver_on(connection)
    if driver is None or not driver.takes_scripts:
        return why.no_fast_path(connection.dialect.driver)
    return execution_elsewhere(connection.dialect) or held


def _mapper_reason(mapper: Mapper[Any]) -> Reason | None:
    """Why SQLAlchemy sends one UPDATE for each object, whatever its values."""
    base_mapper = mapper.base_mapper
    if not base_mapper.batch:
        return why.NOT_BATCHED
    if mapper.version_id_col is not None and mapper.version_id_generator is False:
        return why.VERSION_BY_DATABASE
    if returns_each_update(mapper):
        return why.VALUES_COME_BACK
    return None
