"""One look at a database: the check, with a forecast from earlier looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sqla_seqreserve.errors import ConfigurationError, SeqReserveError
from sqla_seqreserve.health import HealthReport, check_sequences
from sqla_seqreserve.health._columns import missing_schemas
from sqla_seqreserve.health._history import HealthHistory
from sqla_seqreserve.health._outlook import Limits, with_outlook
from sqla_seqreserve.health._place import Place, places_of

from ._options import reason_of
from ._target import Target


@dataclass(frozen=True, slots=True)
class Looked:
    """The result of a look, and its database.

    :ivar missing: schemas that were to be checked, which this database does not have.
    """

    place: Place
    report: HealthReport
    missing: frozenset[str] = frozenset()


class Unchecked(NamedTuple):
    """A database that could not be checked, and why."""

    database: str
    error: Exception

    @property
    def reason(self) -> str:
        """The error in one line."""
        return reason_of(self.error)

    def __str__(self) -> str:
        return f"could not check {self.database}: {self.reason}"


def look(target: Target, history: HealthHistory, limits: Limits, *, subscriber: bool) -> Looked:
    """Check the target, and add the forecasts by the history, and the findings by the limits."""

    def check(connection: Connection) -> Looked:
        (place,) = places_of(connection, None)
        schemas, missing = target.schemas, frozenset[str]()
        if schemas is not None and target.one_of_all:
            missing = frozenset(missing_schemas(connection, schemas))
            schemas = [schema for schema in schemas if schema not in missing]
        report = check_sequences(connection, target.source, schemas=schemas, subscriber=subscriber)
        return Looked(place, report, missing)

    found = target.database.run(check)
    history.add(str(found.place), found.report)
    report = with_outlook(found.report, history.seen(str(found.place)), limits)
    return replace(found, report=report)


def look_at_each(
    targets: Sequence[Target], history: HealthHistory, limits: Limits, *, subscriber: bool
) -> tuple[list[tuple[Target, Looked]], list[Unchecked]]:
    """Look at several databases. One that refuses, or does not answer, does not prevent the others
    from being checked; if there are no others, its error is raised.

    :raises ConfigurationError: none of the databases has a schema that was asked for
    """
    looks = []
    unchecked = []
    for target in targets:
        try:
            looks.append((target, look(target, history, limits, subscriber=subscriber)))
        except SeqReserveError:
            # The command was called wrongly, for whichever database.
            raise
        except (SQLAlchemyError, OSError) as error:
            # asyncpg raises an OSError if no server listens there.
            name, _, _ = target.database.place
            unchecked.append(Unchecked(str(name), error))
    if unchecked and not looks:
        raise unchecked[0].error
    missing = frozenset.intersection(*(found.missing for _, found in looks))
    if missing and not unchecked:
        raise ConfigurationError(
            f"nothing to check: no database has a schema {', '.join(sorted(missing))}"
        )
    return looks, unchecked


def history_in(file: Path | None) -> HealthHistory:
    """Return the history that the file keeps; without a file, one that lasts for this process."""
    return HealthHistory(file, option="--state")


def limits_of(alert_used: float, alert_days: float) -> Limits:
    """Return the limits that the options set."""
    if not 0 < alert_used <= 100:
        raise ConfigurationError(f"--alert-used: expected a percentage, got {alert_used:g}")
    return Limits(used=alert_used / 100, days=alert_days)
