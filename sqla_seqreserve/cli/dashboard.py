"""``sqla-seqreserve dashboard``: the dashboard for Grafana."""

from __future__ import annotations

from importlib.resources import files

import typer

from ._app import OPERATE, app

__all__ = ["dashboard"]


@app.command(rich_help_panel=OPERATE)
def dashboard() -> None:
    """Print a dashboard for Grafana, to import.

    Grafana asks for the Prometheus to use. The dashboard shows the metrics of watch --metrics-port,
    of health --format prometheus-textfile, and of the application's LibraryMetrics.
    """
    typer.echo(files(__package__).joinpath("dashboard.json").read_text(encoding="utf-8"), nl=False)
