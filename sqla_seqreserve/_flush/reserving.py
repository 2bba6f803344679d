"""Chooses how the new objects of a flush are written, and reserves the keys that must be known
first. This takes one message for each connection, in which the server compares the known facts of
the tables under their locks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._database import known_of
from .._drivers import driver_on, reading_before_lock, transaction_status
from .._ids import catalogue
from .._ids.fetch import Wanted
from .._ids.insert_order import in_insert_order
from .._ids.keys import KeySequence, lacks_key, note_outgrown, resolve
from .._ids.reserve import hindrance, take_until_held
from .._ids.server import ask_server
from .._ids.table_names import table_name
from .._reasons import Reason
from .._routes import Distance, Pending, Route
from .._rows.plan import insert_plan
from .._rows.refusals import cast_reason, refusal_of
from .._sqlalchemy.mapping import watches_insert
from .._sqlalchemy.unit_of_work import State
from .._writers.copy import encodes_keys_apart
from .key_requests import (
    KeyRequest,
    Sharing,
    kept_out,
    key_requests,
    lacking_any,
    may_be_reserved,
    not_compared,
    numbered_beside,
    without,
)
from .passthrough import Passthrough
from .reserved_keys import ReservedKeys
from .routing import (
    chosen_route,
    copy_way,
    fewest_of,
    is_distributed,
    plain_tables,
    wishes_for,
)
from .settings import Settings
from .way import BY_INSERT, Way, copied


@dataclass(frozen=True, slots=True)
class _Wanted(Wanted):
    """What one message must fetch and compare for a flush.

    ``asked``: the requests, each with the objects that its ids are for. ``later``: keys that were
    kept, to be compared with the first INSERTs.
    """

    asked: Sequence[KeyRequest] = ()
    later: Sequence[KeySequence] = ()


@dataclass(slots=True, eq=False)
class _Routed:
    """The new objects of one connection, and what was decided about them before the facts of their
    tables are looked at.

    ``is_free``: the message costs no round trip, so it is worth sending just to check whether the
    obstacle to a class's keys, or to COPY, still exists. ``may_number``: nobody asks for keys
    before the first INSERT. The others are as in :meth:`Reserving.reserve_on`.
    """

    connection: Connection
    pending: dict[Mapper[Any], list[State]]
    route: Route
    may_copy: set[Mapper[Any]]
    is_free: bool
    may_restart: bool
    may_number: bool


class Reserving:
    """The decisions for one flush.

    ``ways``: the way of each class for which more was decided than that INSERT is cheaper.
    ``kept``: kept keys (``prefetch``) that were given to objects and must be compared in the
    message of the first INSERTs.
    """

    def __init__(self, settings: Settings, keys: ReservedKeys) -> None:
        self._settings = settings
        self._keys = keys
        self.ways: dict[Mapper[Any], Way] = {}
        self.kept: dict[Connection, Sequence[KeySequence]] = {}

    def reserve_on(
        self,
        connection: Connection,
        pending: dict[Mapper[Any], list[State]],
        *,
        may_copy: set[Mapper[Any]],
        needed: bool,
        interference: Reason | None,
        may_restart: bool,
        commits: bool,
    ) -> Way | None:
        """Choose how the new objects of one connection are written, and reserve the keys that must
        be known first, in one round trip. Return the way of all of them if SQLAlchemy saves them by
        itself because nothing costs less.

        :param pending: the objects by class.
        :param may_copy: the classes that SQLAlchemy need not save itself.
        :param needed: keys must be known before the first INSERT.
        :param interference: why SQLAlchemy writes all of them.
        :param may_restart: the flush can begin again if its first message finds that kept keys are
            no longer valid.
        :param commits: the COMMIT may travel with its last message.
        """
        state = transaction_status(connection)
        driver = driver_on(connection)
        wishes = wishes_for(
            self._settings, connection, driver, pending, needed=needed, commits=commits
        )
        if interference is not None and not wishes.reserve:
            # SQLAlchemy also lets the database number them.
            return None
        # The message costs nothing: it travels with the BEGIN that SQLAlchemy would wait for.
        is_free = driver is not None and driver.begins_along and state == "idle"
        on_citus = ask_server(connection).kind == "citus"
        if on_citus:
            # Whether Citus distributes a table must be known before the way is chosen.
            with reading_before_lock(connection):
                self._keys.sources.update(resolve(connection, pending))
        weighed = [
            Pending(
                len(states),
                len(mapper.tables),
                lacks_key(mapper, states),
                mapper in may_copy,
                distributed=on_citus and is_distributed(connection, mapper),
            )
            for mapper, states in pending.items()
        ]
        route = chosen_route(
            tuple(weighed),
            driver,
            known_of(connection.dialect, Distance),
            begun=state == "open",
            wishes=wishes,
        )
        if route.is_numbered and driver is not None:
            distance = known_of(connection.dialect, Distance)
            plain = Passthrough(driver, distance, begun=state == "open", commits=commits)
            return Way(BY_INSERT.writer, BY_INSERT.reason, plain=plain)
        if route.reserve:
            routed = _Routed(
                connection, pending, route, may_copy, is_free, may_restart, not wishes.reserve
            )
            found = take_until_held(connection, partial(self._look, routed))
            if found is not None:
                self._hand_out(connection, *found)
                return None
        held = hindrance(connection, transaction_status(connection))
        for number, mapper in enumerate(pending):
            way = self.ways.pop(mapper, None)
            if way is not None and way.writer != "copy":
                self.ways[mapper] = way
            elif number in route.copies:
                # The facts could not be locked or compared, so SQLAlchemy writes.
                self.ways[mapper] = Way("orm", held or why.RESTLESS)
        return None

    def _look(self, routed: _Routed, *, doubts: bool = True) -> _Wanted | None:
        """Choose the way of each class by the known facts of its tables, and return which ids to
        take and which facts to compare; ``None`` if nothing can be compared.

        :param doubts: whether to check now and then, even if it costs a round trip, whether the
            obstacle to a class's keys, or to COPY, still exists.
        """
        connection, pending = routed.connection, routed.pending
        if hindrance(connection, transaction_status(connection)) is not None:
            return None
        found = resolve(connection, pending)
        self._keys.sources.update(found)
        ways = _copy_ways(connection, self._chosen_for_copy(found, routed))
        by_insert = self._refused_by_copy(found, pending, ways)
        lacking = self._lacking(connection, found, pending, copied(ways), by_insert)
        if routed.may_number and (beside := numbered_beside(found, pending, lacking)):
            lacking = without(beside, lacking)
            ways |= dict.fromkeys(beside & ways.keys(), Way("orm", why.NUMBERED_BESIDE))
        for mapper in pending:
            self.ways.pop(mapper, None)
        self.ways.update(ways)
        to_copy = copied(ways)
        pinned = {plan.facts.name: plan.facts for plans in to_copy.values() for plan in plans}
        hindering = kept_out(found, pending, ways)
        # What keeps a class from its keys, or from COPY, may have been taken away since.
        doubted = [
            facts
            for facts, rows in hindering.values()
            if doubts and catalogue.is_in_doubt(connection, facts, rows)
        ]
        if not all(facts.lockable for facts in doubted):
            # These facts cannot be compared under a lock; they are read again instead.
            catalogue.forget(connection, [facts.name for facts in doubted])
            return self._look(routed, doubts=False)
        requests = key_requests(
            connection,
            lacking,
            self._settings.prefetch,
            asks_anyway=bool(pinned) or not routed.may_restart,
        )
        takes = any(request.ids.count for request in requests)
        compared = {facts.name: facts for facts, _ in hindering.values() if facts.lockable} | pinned
        sent = list(compared.values()) if routed.is_free or pinned or doubted or takes else []
        kept = not_compared(requests, {facts.name for facts in sent})
        later: list[KeySequence] = []
        if routed.may_restart and not sent and not takes:
            kept, later = later, kept
        tables = in_insert_order(pending) if sent or takes or kept else ()
        order = [table_name(connection, table) for table in tables]
        ids = [request.ids for request in requests]
        return _Wanted(ids, sent, kept=kept, order=order, asked=requests, later=later)

    def _chosen_for_copy(
        self, sources: Mapping[Mapper[Any], KeySequence], routed: _Routed
    ) -> list[Mapper[Any]]:
        """The classes that have enough objects for COPY."""
        pending, copies = routed.pending, routed.route.copies
        chosen = [mapper for number, mapper in enumerate(pending) if number in copies]
        if self._settings.reserve != "always":
            return chosen
        # INSERT would refuse their keys.
        return chosen + [
            mapper
            for mapper, states in pending.items()
            if sources[mapper].refuses_keys
            and mapper in routed.may_copy
            and mapper not in chosen
            and lacks_key(mapper, states)
        ]

    def _lacking(
        self,
        connection: Connection,
        sources: Mapping[Mapper[Any], KeySequence],
        pending: Mapping[Mapper[Any], list[State]],
        to_copy: Collection[Mapper[Any]],
        by_insert: Collection[Mapper[Any]],
    ) -> list[Sharing]:
        """The objects that lack a key which can be reserved: for each sequence the keys that it
        fills, each with its objects.

        :param by_insert: classes that COPY refuses. The database numbers them, unless the settings
            require reserved keys.
        """
        found: dict[object, Sharing] = {}
        for mapper, states in pending.items():
            source = sources[mapper]
            if not may_be_reserved(source, copies=mapper in to_copy):
                continue
            if mapper in by_insert and self._settings.reserve != "always":
                continue
            attributes = [part.key.attribute for part in source.parts]
            needing = lacking_any(attributes, states)
            if not needing or self._casts(connection, source, needing, copies=mapper in to_copy):
                continue
            for part, attribute in zip(source.parts, attributes, strict=True):
                lacking = needing
                if len(attributes) > 1:
                    lacking = [state for state in needing if state.dict.get(attribute) is None]
                if lacking:
                    found.setdefault(part.place, {})[part] = lacking
        return list(found.values())

    def _hand_out(self, connection: Connection, wanted: _Wanted, ids: list[list[Any]]) -> None:
        """Set the fetched and the kept ids on the objects."""
        if wanted.later:
            self.kept[connection] = wanted.later
        for request, fetched in zip(wanted.asked, ids, strict=True):
            sharing = request.sharing
            values = request.shelf.take(sum(map(len, sharing.values())), fetched)
            if not any(note_outgrown(connection, one, values) for one in sharing):
                self._keys.hand_out(sharing, values)

    def _refused_by_copy(
        self,
        sources: Mapping[Mapper[Any], KeySequence],
        pending: Mapping[Mapper[Any], Sequence[State]],
        ways: dict[Mapper[Any], Way],
    ) -> set[Mapper[Any]]:
        """The classes that were to be written by COPY but whose values COPY will refuse. Their way
        is changed to SQLAlchemy's before any key is reserved for them. Classes with a listener that
        may change the values are not checked.
        """
        refused = set()
        for mapper, way in ways.items():
            states = pending[mapper]
            if (
                way.writer != "copy"
                or self._keys.generations
                or not sources[mapper].is_reservable
                or not lacks_key(mapper, states)
                or watches_insert(mapper)
            ):
                continue

            def rows_at(some: slice, states: Sequence[State] = states) -> list[dict[str, Any]]:
                return [state.dict for state in states[some]]

            reasons = (refusal_of(plan, len(states), rows_at) for plan in way.plans.values())
            reason = next(filter(None, reasons), None)
            if reason is not None:
                ways[mapper] = Way("orm", reason)
                refused.add(mapper)
        return refused

    def _casts(
        self,
        connection: Connection,
        source: KeySequence,
        states: Sequence[State],
        *,
        copies: bool,
    ) -> bool:
        """Whether the database must number the rows of a class. It must if an INSERT with known
        keys casts their values differently, or if policies check a returned row; and it should if
        a default would see the reserved key.

        :param copies: COPY was chosen for the class.
        """
        assert source.facts is not None
        assert source.key.table is not None
        mapper = source.key.mapper
        plan = insert_plan(mapper, source.key.table, source.facts, connection.dialect)
        settings = self._settings
        is_asked_for = settings.mode != "bulk" or settings.reserve != "auto"
        if source.facts.row_security and not is_asked_for:
            # INSERT with RETURNING fails for a row that the role may not read afterwards.
            return True
        if (
            plan.context_default is not None
            and not copies
            and not is_asked_for
            and not (self._keys.generations or watches_insert(mapper))
        ):
            return True
        # Before a COPY, the values are checked when they are made.
        if (copies and not self._keys.generations) or len(states) == 1:
            few = 1 < len(states) < (settings.copy_min_rows or fewest_of(source.facts))
            return (plan.cast_reason is not None and len(states) > 1) or (
                few and encodes_keys_apart(connection, plan)
            )
        return bool(
            plan.cast_reason
            or encodes_keys_apart(connection, plan)
            or cast_reason(plan, [state.dict for state in states])
        )


def _copy_ways(connection: Connection, mappers: Iterable[Mapper[Any]]) -> dict[Mapper[Any], Way]:
    """For each class that COPY is to write: its way, which says if COPY can."""
    names = {
        mapper: {table: table_name(connection, table) for table in plain_tables(mapper)}
        for mapper in mappers
    }
    facts = catalogue.table_facts(
        connection, [name for found in names.values() for name in found.values()]
    )
    return {mapper: copy_way(connection, mapper, found, facts) for mapper, found in names.items()}
