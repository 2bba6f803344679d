"""What a command works on: a database, or the models of an application in a database."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from sqla_seqreserve.errors import ConfigurationError

__all__ = ["EXIT_HEALTHY", "EXIT_UNHEALTHY", "EXIT_UNKNOWN", "Target", "resolve"]

EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN = 0, 1, 2

_URL_VARIABLE = "SQLA_SEQRESERVE_URL"


@dataclass(frozen=True, slots=True)
class Target:
    """An engine, the source to check in it (``None``: the whole database), and the schemas."""

    engine: Engine
    source: Any
    schemas: list[str] | None


def resolve(target: str | None, url: str | None, schemas: list[str] | None) -> Target:
    """Return what ``target`` names: a URL, ``module:Base``, or nothing for the URL in the
    environment.
    """
    source = None
    if target is not None and "://" not in target:
        if schemas:
            raise ConfigurationError(f"--schema narrows a whole database; {target} names its own")
        source = _load(target)
    elif target is not None:
        url = target
    url = url or os.environ.get(_URL_VARIABLE)
    if not url:
        raise ConfigurationError(f"no database: give its URL, or set {_URL_VARIABLE}")
    return Target(engine=_engine(url), source=source, schemas=schemas or None)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # SQLAlchemy's message repeats the URL, and with it the password.
        raise ConfigurationError("the database URL cannot be parsed") from error.__cause__
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    # A connection for each look: none is kept to a database that may restart meanwhile.
    return create_engine(parsed, poolclass=NullPool)


def _load(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise ConfigurationError(f"{target!r}: expected a database URL or module:Base")
    if "" not in sys.path:
        # As with `python -m`, the application in the current folder is found.
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{target!r} cannot be loaded: {error}") from error
    return found
