"""SQLAlchemy's source distribution, which holds its tests: taken through pip, kept in a cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["ConformanceError", "cache_folder", "sdist", "unpack"]


class ConformanceError(Exception):
    """The run could not be made, so that it says nothing about us."""


def sdist(version: str) -> Path:
    """The source distribution of SQLAlchemy *version*, downloaded unless the cache holds it."""
    cached = cache_folder() / f"sqlalchemy-{version}.tar.gz"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            # Renamed when complete: two runs at once may both download, neither reads half a file.
            os.replace(_download(version, Path(folder)), cached)
    return cached


def unpack(archive: Path, into: Path) -> Path:
    """Unpack *archive*; return its root folder. The suite writes there, so one for each side."""
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
    """Where downloads are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sqla-seqreserve" / "conformance"


def _download(version: str, folder: Path) -> Path:
    # Not --no-binary=:all:, with which pip compiles what SQLAlchemy is built with, Cython first.
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
