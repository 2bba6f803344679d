"""The command line, ``sqla-seqreserve`` or ``python -m sqla_seqreserve`` (extra ``[cli]``): one
file per command.
"""

from __future__ import annotations

from . import bench, demo, guide, health, load, repair, serve, watch
from ._app import app

__all__ = ["app", "main"]

# Importing a command's module registers it.
_COMMANDS = (bench, demo, guide, health, load, repair, serve, watch)


def main() -> None:
    """Run the command line."""
    app()
