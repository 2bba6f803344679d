"""Describes the machine of a measurement, without which times mean nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import Engine

__all__ = ["describe_machine"]

_LIBRARIES = (
    "sqla-seqreserve",
    "sqlalchemy",
    "psycopg",
    "psycopg2",
    "psycopg2-binary",
    "asyncpg",
    "django",
)


def describe_machine(engine: Engine) -> Mapping[str, str]:
    """The processor, the interpreter, the libraries and the server, by name."""
    found = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    host = engine.url.host or str(engine.url.query.get("host", ""))
    found["connected by"] = "Unix socket" if host.startswith(("/", "@")) or not host else "TCP"
    with engine.connect() as connection:
        for setting in ("server_version", "fsync", "synchronous_commit"):
            found[setting] = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
