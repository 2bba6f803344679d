"""The target of a command: a database, or the models of an application in a database."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, text

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.health import HealthReport, RepairReport

from ._database import Database, find_database, is_database

EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN = 0, 1, 2

_DATABASES = text(
    "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate "
    "AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A database, the source to check in it (``None``: all of it), and the schemas.

    :ivar one_of_all: it is one of all databases of a server, which need not have the schemas.
    """

    database: Database
    source: Any
    schemas: list[str] | None
    name: str | None = None
    one_of_all: bool = False

    def each_database(self) -> list[Target]:
        """Return a target for every database of the server that this role may connect to."""

        def names(connection: Connection) -> list[str]:
            return list(connection.scalars(_DATABASES))

        return [
            replace(self, database=self.database.named(name), one_of_all=True)
            for name in self.database.run(names)
        ]

    def require_sequences(self, report: HealthReport | RepairReport) -> None:
        """Refuse an empty report: if no sequence was checked, that does not mean healthy.

        :raises ConfigurationError: the report lists no sequence
        """
        if not (report.sequences if isinstance(report, HealthReport) else report.results):
            raise ConfigurationError(f"nothing to check: {self.why_nothing()}")

    def why_nothing(self) -> str:
        """Say in which place no sequence was found."""
        if self.name is not None:
            return f"{self.name} has no column that a sequence of {self.database} could fill"
        if self.schemas is not None:
            return (
                f"{self.database} has no sequence that this role sees in "
                f"schema {', '.join(self.schemas)}"
            )
        return f"{self.database} has no sequence that this role sees"


def resolve(target: str | None, url: str | None, schemas: list[str] | None) -> Target:
    """Return what ``target`` names: a URL or libpq string, ``module:Base``, or nothing for the
    database of the environment.

    :raises ConfigurationError: it names nothing that can be used
    """
    if target is None or is_database(target):
        if target is not None and url is not None:
            raise ConfigurationError("two databases are given: as the target, and by --url")
        return Target(find_database(target or url), None, schemas or None)
    if schemas:
        raise ConfigurationError(f"--schema narrows a whole database; {target} names its own")
    source = _load(target)
    return Target(find_database(url), source, None, name=target)


def _load(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise ConfigurationError(
            f"{target!r}: expected a database URL, a libpq string or module:Base"
        )
    if "" not in sys.path:
        # As with `python -m`, the application in the current folder is found.
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        # The application's own module may raise any exception, or call sys.exit().
        raise ConfigurationError(
            f"{target!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return found
