"""The wheel and the source distribution, installed as users install them: into empty environments.

Builds with pip and installs from the index, so it runs where it is asked for:
``python -m pytest -m package``, or ``tox -e package``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = "Scripts" if os.name == "nt" else "bin"

pytestmark = [pytest.mark.package, pytest.mark.timeout(1200)]

SMOKE = """
from sqlalchemy import BigInteger, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqla_seqreserve import check_sequences, register
from sqla_seqreserve.embedded import embedded_postgres

class Base(DeclarativeBase): pass

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)

with embedded_postgres() as server:
    engine = create_engine(server.url)
    Base.metadata.create_all(engine)
    Session = sessionmaker(engine)
    register(Session)
    with Session() as session:
        session.add_all([Order() for _ in range(50)])
        session.commit()
        assert session.query(Order).count() == 50
        assert check_sequences(session, Base).healthy
    engine.dispose()
print("saved")
"""


# Of each extra that a user installs by itself: a program that shows that it brings what it is for.
ALONE = {
    "alembic": "import sqla_seqreserve.alembic_plugin",
    "asyncio": "import greenlet; from sqla_seqreserve import aio; aio.bulk_insert",
    "asyncpg": "from sqlalchemy.ext.asyncio import create_async_engine as create; "
    "import sqla_seqreserve.aio; create('postgresql+asyncpg://app@db.example/shop')",
    "bench": "from sqla_seqreserve.cli import app; import asyncpg, django, matplotlib, psycopg2",
    "binary": "import psycopg; assert psycopg.pq.__impl__ == 'binary'; "
    "import sqlalchemy, sqla_seqreserve; sqlalchemy.create_engine('postgresql+psycopg://db/x')",
    "cli": "from sqla_seqreserve.cli import app",
    "demo": "from sqla_seqreserve.__main__ import main; import sys; "
    "sys.argv[1:] = ['demo', '--clients', '1', '--compare', '1']; main()",
    "embedded": SMOKE,
    "metrics": "from sqla_seqreserve.metrics import HealthMetrics; HealthMetrics()",
    "portal": "import sqla_seqreserve.web.portfolio, sqla_seqreserve.portfolio.recalculation",
    "portfolio": "import sqla_seqreserve.portfolio.recalculation, "
    "sqla_seqreserve.portfolio.factories",
    "web": "from sqla_seqreserve.web import health_app, system_router",
}
NEEDS_A_COMPILER = {"psycopg2"}
FOR_THIS_PROJECT = {"agents", "dev", "docs", "lint", "test", "types", "zoo"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout, so that it uses what is installed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def empty_environment(folder: Path) -> Path:
    """Make an environment without packages; return the folder of its commands."""
    venv.create(folder, with_pip=False)
    return folder / SCRIPTS


def pip(commands: Path, *arguments: object) -> str:
    """Run the pip of these tests on that environment; return its output."""
    python = commands / ("python.exe" if os.name == "nt" else "python")
    command = (sys.executable, "-m", "pip", "--python", python, *arguments)
    return run(*command, cwd=commands).stdout


def install(commands: Path, *what: object) -> None:
    # Not compiled: each environment is for a few commands.
    pip(commands, "install", "--quiet", "--no-compile", *what)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source distribution of the checkout, by kind."""
    folder = tmp_path_factory.mktemp("dist")
    commands = empty_environment(folder / "builder")
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    install(commands, "build", *backend)
    build = (commands / "python", "-m", "build", "--no-isolation", "--outdir", folder / "out")
    run(*build, ROOT, cwd=folder)
    [wheel] = (folder / "out").glob("*.whl")
    [source] = (folder / "out").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": source}


def test_the_distributions_hold_what_they_need(distributions: dict[str, Path]) -> None:
    """The wheel contains migrations, guides, page and types; the source contains tests
    and guides.
    """
    with zipfile.ZipFile(distributions["wheel"]) as archive:
        wheel = set(archive.namelist())
    with tarfile.open(distributions["sdist"]) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}

    for name in (
        "sqla_seqreserve/py.typed",
        "sqla_seqreserve/guides/index.md",
        "sqla_seqreserve/web/page.html",
        "sqla_seqreserve/cli/rules.yml",
        "sqla_seqreserve/cli/dashboard.json",
        "sqla_seqreserve/portfolio/migrations/env.py",
        "sqla_seqreserve/portfolio/share_prices.csv",
        "sqla_seqreserve/portfolio/share_prices.LICENSE",
    ):
        assert name in wheel
    assert not [name for name in wheel if name.startswith("tests/")]
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "alembic/env.py"):
        assert name in source


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_works_in_an_empty_environment(
    kind: str, distributions: dict[str, Path], tmp_path: Path
) -> None:
    """Installed as the README says, the package saves rows, and its commands run."""
    commands = empty_environment(tmp_path / "venv")
    install(commands, f"{distributions[kind]}[cli,embedded]")

    assert run(commands / "python", "-c", SMOKE, cwd=tmp_path).stdout == "saved\n"
    shown = run(commands / "sqla-seqreserve", "--version", cwd=tmp_path).stdout
    assert shown.split()[0] == "sqla-seqreserve"
    assert "index" in run(commands / "sqla-seqreserve", "guide", cwd=tmp_path).stdout


def test_the_script_alone_says_what_it_lacks(
    distributions: dict[str, Path], tmp_path: Path
) -> None:
    """Without extras the command names the extra that it needs, and ends with 2."""
    commands = empty_environment(tmp_path / "venv")
    install(commands, distributions["wheel"])

    done = run(commands / "sqla-seqreserve", "health", cwd=tmp_path, check=False)

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: typer is not installed, and the command line needs it: "
        'pip install "sqla-seqreserve[cli]"'
    ]


def test_the_health_page_brings_nothing_of_the_portal(
    distributions: dict[str, Path], tmp_path: Path
) -> None:
    """The extra [web] installs nothing of the portal: no numerics, no factories, no migrations."""
    commands = empty_environment(tmp_path / "venv")
    install(commands, f"{distributions['wheel']}[web,binary]")

    listed = pip(commands, "list", "--format=freeze").lower()
    installed = {line.partition("==")[0] for line in listed.splitlines()}
    assert "fastapi" in installed
    assert not installed & {"numpy", "scipy", "factory-boy", "factory_boy", "alembic"}
    run(commands / "python", "-c", "import sqla_seqreserve.web", cwd=tmp_path)


def test_twine_takes_the_distributions(distributions: dict[str, Path], tmp_path: Path) -> None:
    """twine accepts both distributions, with the README that an index shows."""
    commands = empty_environment(tmp_path / "venv")
    install(commands, "twine")
    done = run(
        commands / "python",
        "-m",
        "twine",
        "check",
        "--strict",
        *distributions.values(),
        cwd=tmp_path,
    )
    assert done.stdout.count("PASSED") == 2


def test_the_version_is_the_changelogs(distributions: dict[str, Path]) -> None:
    """The topmost heading of the changelog is the version that is built with its date, or says that
    what follows is not released.
    """
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    [heading, *_] = re.findall(r"^## (.+)", changelog, re.MULTILINE)
    built = distributions["wheel"].name.split("-")[1]
    dated = re.fullmatch(rf"{re.escape(built)} \(\d{{4}}-\d\d-\d\d\)", heading)
    assert heading == "Unreleased" or dated is not None


def test_every_extra_is_tried_and_in_the_readme() -> None:
    """Every extra is tested and is in the README's table."""
    assert ALONE.keys() | NEEDS_A_COMPILER | FOR_THIS_PROJECT == EXTRAS.keys()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`\[(\w+)\]`", readme))
    assert EXTRAS.keys() - listed == set()


@pytest.mark.extras
@pytest.mark.parametrize("extra", ALONE)
def test_an_extra_alone_is_enough(
    extra: str, distributions: dict[str, Path], tmp_path: Path
) -> None:
    """Each extra, installed by itself, installs all that it needs."""
    commands = empty_environment(tmp_path / "venv")
    install(commands, f"{distributions['wheel']}[{extra}]")
    run(commands / "python", "-W", "error", "-c", ALONE[extra], cwd=tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file())
    print(f"[{extra}] takes {size / 1e6:.0f} MB")
    if extra == "demo":
        assert size < 150e6
        listed = pip(commands, "list", "--format=freeze").lower()
        assert not {"numpy", "pandas", "scipy"} & {
            line.partition("=")[0] for line in listed.split()
        }
