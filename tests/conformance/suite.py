"""One side of the conformance run: SQLAlchemy's suite in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import URL

from .results import RESULTS_FILE, Results, read_results
from .source import ConformanceError

__all__ = ["run_suite"]

_PLUGINS = Path(__file__).resolve().parent / "plugins"
_ROOT = Path(__file__).resolve().parents[2]

_DATABASE = "conformance"

# pytest's exit codes for "all passed" and "some failed"; with any other the tests did not run.
_RAN = (0, 1)


def run_suite(
    folder: Path,
    source: Path,
    url: URL,
    paths: Sequence[str],
    *,
    keyword: str | None,
    register: str | None,
    settings: str,
    timeout: int,
) -> Results:
    """Run *paths* of the suite in *source* against *url*, with the log and the results in *folder*.

    *register* is ``module:function``, or None for plain SQLAlchemy.
    """
    _write_config(source / "test.cfg", url)
    command = [sys.executable, "-s", "-m", "pytest", *paths]
    command += ["-p", "sqla_conformance", f"--conformance-results={folder / RESULTS_FILE}"]
    command += ["--db", _DATABASE]
    command += ["-p", "pytest_timeout", f"--timeout={timeout}", "--timeout-method=signal"]
    command += ["-p", "no:cacheprovider", "--maxfail=0", "--continue-on-collection-errors"]
    command += ["--nomypy", "--nomemory", "--tb=short"]
    if keyword is not None:
        command += ["-k", keyword]
    if register is not None:
        command += [f"--conformance-register={register}", f"--conformance-settings={settings}"]
    log = folder / "log.txt"
    with log.open("w") as output:
        done = subprocess.run(
            command,
            cwd=source,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    results = read_results(folder)
    if not results.tests or (results.complete and done.returncode not in _RAN):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise ConformanceError(
            f"SQLAlchemy's suite did not run ({folder.name}, exit code {done.returncode}):\n{tail}"
        )
    return results


def _write_config(path: Path, url: URL) -> None:
    # SQLAlchemy's plugin reads this file. On a command line every user of the machine could see the
    # password.
    path.touch(mode=0o600)
    escaped = url.render_as_string(hide_password=False).replace("%", "%%")
    path.write_text(f"[db]\n{_DATABASE} = {escaped}\n")


def _environment() -> dict[str, str]:
    found = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        # The checkout comes before an installed copy of this package, as in ``python -m pytest``.
        "PYTHONPATH": os.pathsep.join([str(_PLUGINS), str(_ROOT), *([found] if found else [])]),
        # Sets have the same order in both runs.
        "PYTHONHASHSEED": "0",
        # SQLAlchemy's suite behaves differently with some plugins, such as pytest-xdist.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
