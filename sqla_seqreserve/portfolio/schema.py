"""Bring a database to the portfolio's schema, from a checkout or from an installed wheel.

::

    upgrade("postgresql+psycopg://user@localhost/portal")   # opens, commits, closes
    upgrade(session.connection())                           # in your transaction; you commit

:func:`migration_config` is for every other Alembic command, as in
``command.downgrade(migration_config(url), "base")``. This module needs the extra ``[alembic]``.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, make_url

from ..errors import ConfigurationError

__all__ = ["migration_config", "script_location", "upgrade"]


def script_location() -> Path:
    """Return the folder of the migration scripts.

    A wheel carries them inside the package; in a checkout, an editable install included, they are
    the top-level folder ``alembic``.
    """
    here = Path(__file__).resolve().parent
    candidates = (here / "migrations", here.parents[1] / "alembic")
    for candidate in candidates:
        if (candidate / "env.py").is_file():
            return candidate
    looked_in = " and ".join(str(candidate) for candidate in candidates)
    raise ConfigurationError(
        f"No migration scripts of the portfolio were found: looked for env.py in {looked_in}. "
        "Install the wheel again, or run from a complete checkout."
    )


def migration_config(url: str | URL | None = None) -> Config:
    """Return the Alembic configuration for the database at ``url``.

    Without a URL, the scripts look for a database as their ``env.py`` says. The password, if the
    URL has one, stands in the main option ``sqlalchemy.url`` and is neither logged nor printed.
    """
    config = Config()
    config.set_main_option("script_location", _escaped(str(script_location())))
    if url is not None:
        rendered = make_url(url).render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", _escaped(rendered))
    return config


def upgrade(target: str | URL | Connection, revision: str = "head") -> None:
    """Upgrade the database at a URL, or on a connection, to ``revision``.

    On a connection, everything happens in its transaction, one is begun if there is none, and the
    caller commits.
    """
    if not isinstance(target, Connection):
        command.upgrade(migration_config(target), revision)
        return
    if not target.in_transaction():
        # Alembic would begin one itself, and commit it.
        target.begin()
    config = migration_config()
    config.attributes["connection"] = target
    command.upgrade(config, revision)


def _escaped(value: str) -> str:
    # Config keeps its options in a ConfigParser, where % begins an interpolation.
    return value.replace("%", "%%")
