"""One look at a database: the check, with a forecast from earlier looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.health import HealthReport, check_sequences
from sqla_seqreserve.health._history import HealthHistory
from sqla_seqreserve.health._outlook import Limits, with_outlook
from sqla_seqreserve.health._place import Place, places_of

from ._target import Target


@dataclass(frozen=True, slots=True)
class Looked:
    """The result of a look, and its database."""

    place: Place
    report: HealthReport


def look(target: Target, history: HealthHistory, limits: Limits, *, subscriber: bool) -> Looked:
    """Check the target, and add the forecasts by the history, and the findings by the limits."""

    def check(connection: Connection) -> Looked:
        (place,) = places_of(connection, None)
        return Looked(
            place,
            check_sequences(
                connection, target.source, schemas=target.schemas, subscriber=subscriber
            ),
        )

    found = target.database.run(check)
    history.add(str(found.place), found.report)
    report = with_outlook(found.report, history.seen(str(found.place)), limits)
    return Looked(found.place, report)


def history_in(file: Path | None) -> HealthHistory:
    """Return the history that the file keeps; without a file, one that lasts for this process."""
    return HealthHistory(file, option="--state")


def limits_of(alert_used: float, alert_days: float) -> Limits:
    """Return the limits that the options set."""
    if not 0 < alert_used <= 100:
        raise ConfigurationError(f"--alert-used: expected a percentage, got {alert_used:g}")
    return Limits(used=alert_used / 100, days=alert_days)
