"""``sqla-seqreserve rules``: the alerting rules for Prometheus."""

from __future__ import annotations

from importlib.resources import files

import typer

from ._app import OPERATE, app

__all__ = ["rules"]


@app.command(rich_help_panel=OPERATE)
def rules() -> None:
    """Print alerting rules for Prometheus, as a file for rule_files.

    They use the metrics of watch --metrics-port and of health --format prometheus-textfile.
    """
    typer.echo(files(__package__).joinpath("rules.yml").read_text(encoding="utf-8"), nl=False)
