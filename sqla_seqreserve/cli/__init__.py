"""The command line, ``sqla-seqreserve`` or ``python -m sqla_seqreserve`` (extra ``[cli]``): one
file per command.
"""

from __future__ import annotations

from . import (
    bench,
    dashboard,
    demo,
    guide,
    health,
    load,
    repair,
    rules,
    serve,
    watch,
)
from ._app import app

__all__ = ["app", "main"]

# Importing a command's module registers it.
_COMMANDS = (bench, dashboard, demo, guide, health, load, repair, rules, serve, watch)


def main() -> None:
    """Run the command line."""
    app()
