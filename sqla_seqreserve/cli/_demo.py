"""What ``sqla-seqreserve demo`` does and prints; imported when the command runs."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from sqla_seqreserve.embedded import embedded_postgres
from sqla_seqreserve.health import HealthReport, check_sequences
from sqla_seqreserve.portfolio.base import Base
from sqla_seqreserve.portfolio.demo import Demo, rows_to_save, save_everything
from sqla_seqreserve.portfolio.owners_measures import ROUNDS, WRITERS, OwnersMeasure, measure
from sqla_seqreserve.portfolio.schema import upgrade
from sqla_seqreserve.portfolio.share_irrs import ShareIrr, share_irrs
from sqla_seqreserve.portfolio.share_prices import SharePrice, read_share_prices

from ._tables import health_table

__all__ = ["run_demo"]

console = Console(soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Databases:
    """The demo's two databases: ours, and stock SQLAlchemy's."""

    ours: Engine
    stock: Engine


def run_demo(url: str | None, *, clients: int, compared: int, keep: bool) -> list[str]:
    """Save, compare, check and print; return what is wrong."""
    with _databases(url, keep=keep) as databases:
        prices = read_share_prices()
        result = _save(databases, prices, clients, min(compared, clients))
        with databases.ours.connect() as connection:
            health = check_sequences(connection, Base)
        _print_result(result, len(prices))
        console.print(health_table(health))
        with Session(databases.ours) as session:
            console.print(_irr_table(share_irrs(session)))
        measures = _measure(databases.ours)
        console.print(_measures_table(measures))
        return _problems(result, health, measures)


def _save(databases: _Databases, prices: Sequence[SharePrice], clients: int, compared: int) -> Demo:
    rows = rows_to_save(prices, clients=clients, compared=compared)
    progress = Progress(
        TextColumn("saving"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("saving", total=rows)
        return save_everything(
            databases.ours,
            databases.stock,
            prices,
            clients=clients,
            compared=compared,
            progress=lambda count: progress.advance(task, count),
        )


def _print_result(result: Demo, prices: int) -> None:
    saved = result.saved
    console.print(
        f"{saved.rows:,} rows from {prices} monthly share prices, saved through "
        f"session.add_all() and commit() in {saved.seconds:.1f} s: "
        f"[bold]{saved.rows_a_second:,.0f} rows a second[/], {saved.statements:,} statements."
    )
    table = Table(title="Beside stock SQLAlchemy: the same rows, in turn, in the same run")
    table.add_column("table", overflow="fold")
    for heading in ("rows", "stock s", "ours s", "stock statements", "ours", "times faster"):
        table.add_column(heading, justify="right")
    for item in result.comparisons:
        if item.ours.rows:
            table.add_row(
                item.table,
                f"{item.ours.rows:,}",
                f"{item.stock.seconds:.2f}",
                f"{item.ours.seconds:.2f}",
                f"{item.stock.statements:,}",
                f"{item.ours.statements:,}",
                f"[bold]{item.ratio:.1f}[/]",
            )
    if table.row_count:
        console.print(table)
        console.print(
            "The first table's key is a Sequence that is also the column's server default, as "
            "migrations define it: stock SQLAlchemy sends one INSERT a row for it. An identity "
            "key is its best case."
        )


def _measure(engine: Engine) -> list[OwnersMeasure]:
    with Progress(
        TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("measuring", total=WRITERS * ROUNDS)
        return measure(engine, progress=lambda count: progress.advance(task, count))


def _irr_table(rates: Sequence[ShareIrr]) -> Table:
    table = Table(title="What the monthly plans brought, all clients together")
    table.add_column("share")
    for heading in ("paid in", "worth at the end", "IRR a year"):
        table.add_column(heading, justify="right")
    for rate in rates:
        table.add_row(
            rate.share, f"{rate.invested:,.0f}", f"{rate.worth:,.0f}", f"{rate.irr:.2f} %"
        )
    return table


def _measures_table(measures: Sequence[OwnersMeasure]) -> Table:
    table = Table(title="What the portal's owners measure")
    table.add_column("measure", overflow="fold")
    for heading in ("required", "reached", ""):
        table.add_column(heading, overflow="fold")
    for item in measures:
        table.add_row(
            item.name, item.required, item.reached, "[green]ok[/]" if item.met else "[red]short[/]"
        )
    return table


def _problems(result: Demo, health: HealthReport, measures: Sequence[OwnersMeasure]) -> list[str]:
    found = [
        f"{model.__tablename__} holds {result.found[model]:,} rows, expected {expected:,}"
        for model, expected in result.planned.items()
        if result.found[model] != expected
    ]
    found += [
        f"{item.name}: required {item.required}, reached {item.reached}"
        for item in measures
        if not item.met
    ]
    if not health.healthy:
        found.append("a sequence is not healthy: see the table above")
    found += [
        f"{item.table}: stock saved {item.stock.rows} rows, we {item.ours.rows}"
        for item in result.comparisons
        if item.ours.rows != item.stock.rows
    ]
    return found


@contextlib.contextmanager
def _databases(url: str | None, *, keep: bool) -> Iterator[_Databases]:
    """Create the demo's databases, migrate them, and drop them again."""
    with contextlib.ExitStack() as stack:
        server = _server(stack, url, keep=keep)
        names = [f"seqreserve_demo_{secrets.token_hex(4)}" for _ in range(2)]
        admin = create_engine(server, isolation_level="AUTOCOMMIT")
        stack.callback(admin.dispose)
        engines = []
        for name, kept in zip(names, (keep, False), strict=True):
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            if not kept:
                stack.callback(_drop, admin, name)
            engine = create_engine(server.set(database=name))
            stack.callback(engine.dispose)
            upgrade(engine.url)
            engines.append(engine)
        yield _Databases(*engines)
    if keep:
        shown = server.set(database=names[0]).render_as_string(hide_password=True)
        console.print(f"The database is kept: {shown}", highlight=False)


def _server(stack: contextlib.ExitStack, url: str | None, *, keep: bool) -> URL:
    url = url or os.environ.get("SQLA_SEQRESERVE_URL")
    if url:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return parsed
    folder = Path.cwd() / "sqla-seqreserve-demo" if keep else None
    return make_url(stack.enter_context(embedded_postgres(folder)).url)


def _drop(admin: Engine, name: str) -> None:
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
