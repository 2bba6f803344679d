"""The drivers that the benchmarks run on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from sqlalchemy import URL

from sqla_seqreserve.errors import ConfigurationError

__all__ = ["DRIVERS", "PSYCOPG", "check_driver", "driver_of"]

PSYCOPG: Final = "psycopg"
DRIVERS: Final = (PSYCOPG, "psycopg2", "asyncpg")


def check_driver(name: str) -> None:
    """Check a driver's name.

    :raises ConfigurationError: it is not one of :data:`DRIVERS`, or not installed.
    """
    if name not in DRIVERS:
        raise ConfigurationError(f"driver {name}: expected one of {', '.join(DRIVERS)}")
    if find_spec(name) is None:
        raise ConfigurationError(f"driver {name}: it is not installed; pip install {name}")


def driver_of(url: URL | None) -> str:
    """The driver that a URL names; psycopg if it names none of :data:`DRIVERS`."""
    named = url.drivername.partition("+")[2] if url is not None else ""
    return named if named in DRIVERS else PSYCOPG
