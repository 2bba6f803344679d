"""SQLAlchemy's source distribution, which contains its tests: downloaded by pip, and kept in a
cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["ConformanceError", "cache_folder", "sdist", "unpack"]


class ConformanceError(Exception):
    """The run was not possible, so it says nothing about this package."""


def sdist(version: str) -> Path:
    """The source distribution of SQLAlchemy *version*, from the cache or downloaded."""
    cached = cache_folder() / f"sqlalchemy-{version}.tar.gz"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            # Renamed when it is complete: two runs may both download it, and neither reads a part
            # of it.
            os.replace(_download(version, Path(folder)), cached)
    return cached


def unpack(archive: Path, into: Path) -> Path:
    """Unpack *archive*, and return its root folder. The suite writes there, so each side has its
    own.
    """
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    roots = [path.parent.parent for path in into.glob("*/test/conftest.py")]
    if len(roots) != 1:
        raise ConformanceError(
            f"{archive} should hold one folder with SQLAlchemy's tests, found {len(roots)}; "
            "remove the file and run again"
        )
    return roots[0]


def cache_folder() -> Path:
    """The folder in which downloads are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sqla-seqreserve" / "conformance"


def _download(version: str, folder: Path) -> Path:
    # Not --no-binary=:all:, with which pip also compiles SQLAlchemy's build tools, Cython first.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary=sqlalchemy", f"--dest={folder}", f"sqlalchemy=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise ConformanceError(
            f"pip found no source distribution of SQLAlchemy {version}; "
            f"give one with --source\n{done.stdout}{done.stderr}"
        )
    return found[0]
