"""The conformance run: SQLAlchemy's own tests, with and without this package.

::

    python -m tests.conformance                       the tests of the unit of work
    python -m tests.conformance test/orm test/ext     any files or folders of SQLAlchemy's suite
    python -m tests.conformance test/orm -k cascade   only the tests whose names match
    python -m tests.conformance --driver asyncpg      through another driver than psycopg
    python -m tests.conformance --settings default    as register(Session) does it

The source distribution of the installed SQLAlchemy is taken through pip. Its tests run against
PostgreSQL twice, through one driver: on plain SQLAlchemy, and with ``register(Session,
copy_min_rows=1)`` or, with ``--settings default``, ``register(Session)``. Each side has a database
of its own, and neither asserts on the text of SQL. The run fails on every test that passes only on
plain SQLAlchemy, if COPY wrote no rows (such a run proves nothing; with the default settings: if no
flush was reported), and if ``exceptions.toml`` lists a test that needs no exception.

The server is ``--url`` or ``SQLA_SEQRESERVE_URL`` if one is set, and the embedded one otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import URL, make_url

from .database import suite_database
from .results import Results, read_results
from .source import ConformanceError, sdist, unpack
from .suite import run_suite
from .verdict import Verdict, judge, read_exceptions

HERE = Path(__file__).resolve().parent
EXCEPTIONS = HERE / "exceptions.toml"
REGISTER = "sqla_seqreserve:register"

DEFAULT_PATHS = (
    "test/orm/test_unitofwork.py",
    "test/orm/test_unitofworkv2.py",
    "test/orm/test_cycles.py",
    "test/orm/test_manytomany.py",
    "test/orm/test_defaults.py",
    "test/orm/test_session.py",
)


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        with _work_folder(keep=options.keep) as work, _server_url(options.url) as server_url:
            verdict = _run(options, work, server_url)
    except ConformanceError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print("\n".join(verdict.lines()))
    if options.summary:
        options.summary.write_text(json.dumps(dataclasses.asdict(verdict), indent=2))
    return 0 if verdict.ok else 1


def _run(options: argparse.Namespace, work: Path, server_url: URL) -> Verdict:
    archive = options.source or sdist(sqlalchemy.__version__)
    print(f"SQLAlchemy {sqlalchemy.__version__}, Python {sys.version.split()[0]}, logs in {work}")
    print(f"running {' '.join(options.paths)}")
    print(f"on {options.driver}, {options.settings} settings", flush=True)

    def side(name: str, register: str | None) -> Results:
        with suite_database(server_url, keep=options.keep) as url:
            results = run_suite(
                work / name,
                unpack(archive, work / name),
                url.set(drivername=f"postgresql+{options.driver}"),
                options.paths,
                keyword=options.k,
                register=register,
                settings=options.settings,
                timeout=options.timeout,
            )
        print(f"{name}: {results.seconds:.0f} s", flush=True)
        return results

    with ThreadPoolExecutor(options.jobs) as pool:
        ours = pool.submit(side, "ours", options.register)
        plain = (
            pool.submit(read_results, options.plain_from)
            if options.plain_from
            else pool.submit(side, "plain", None)
        )
        return judge(
            plain.result(),
            ours.result(),
            read_exceptions(
                options.exceptions, sqlalchemy.__version__, options.driver, options.settings
            ),
            copies=options.settings == "copy",
            selected=options.k is not None or any("::" in path for path in options.paths),
        )


@contextlib.contextmanager
def _work_folder(*, keep: bool) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="sqla-conformance-"))
    try:
        yield work
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _server_url(url: str | None) -> Iterator[URL]:
    if url:
        yield make_url(url).set(drivername="postgresql+psycopg")
        return
    from sqla_seqreserve.embedded import embedded_postgres

    # Some tests are about two-phase commit, which a server does not offer unless told to.
    settings = {"max_prepared_transactions": "20"}
    with embedded_postgres(fsync=False, settings=settings) as server:
        yield make_url(server.url)


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        default=list(DEFAULT_PATHS),
        help="files, folders or test ids of SQLAlchemy's suite, relative to its root",
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="as pytest's -k, for both sides")
    parser.add_argument(
        "--url",
        default=os.environ.get("SQLA_SEQRESERVE_URL"),
        help="a server on which roles and databases may be created "
        "(default: SQLA_SEQRESERVE_URL, else the embedded server)",
    )
    parser.add_argument(
        "--driver",
        choices=("psycopg", "psycopg2", "asyncpg"),
        default="psycopg",
        help="the driver of both sides (default psycopg)",
    )
    parser.add_argument(
        "--settings",
        choices=("copy", "default"),
        default="copy",
        help="copy (the default): COPY from one row up; default: the settings of register()",
    )
    parser.add_argument(
        "--register",
        default=REGISTER,
        metavar="MODULE:FUNCTION",
        help="what is called with (Session, copy_min_rows=1), or (Session), on our side",
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="SDIST",
        help="SQLAlchemy's source distribution, instead of the one that pip finds",
    )
    parser.add_argument(
        "--plain-from",
        type=Path,
        metavar="FOLDER",
        help="the 'plain' folder of a run with --keep: its results are used again",
    )
    parser.add_argument(
        "--exceptions",
        type=Path,
        default=EXCEPTIONS,
        help="the tests that may be lost, each with its reason",
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the verdict as JSON")
    parser.add_argument(
        "--timeout", type=int, default=120, help="seconds that one test may take (default 120)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        choices=(1, 2),
        default=2,
        help="2 (the default): both sides at once; 1: one after the other",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the folder of logs and the databases"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
