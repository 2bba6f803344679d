"""What ``sqla-seqreserve demo`` does and prints; imported when the command runs."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

from ._database import url_of
from ._options import make_console, needs_extra
from ._progress import progress
from ._reports import print_health

console = make_console()
aside = make_console(stderr=True)


@dataclass(frozen=True, slots=True)
class _Databases:
    """The demo's two databases: ours, and stock SQLAlchemy's."""

    ours: Engine
    stock: Engine


def run_demo(
    url: str | None,
    *,
    clients: int,
    compared: int,
    keep: bool,
    portal: bool,
    serve_on: int | None,
) -> list[str]:
    """Save, compare, check and print; return what is wrong.

    :param portal: also the portal's rates of return and its owners' measures
    :param serve_on: serve the portal on this port afterwards, until a signal ends it
    """
    with _databases(url, keep=keep) as databases:
        prices = read_share_prices()
        console.print(
            f"Saving what {clients} clients with a monthly plan in each of five shares would have "
            "logged from 2000 to 2010, and as many valuations."
        )
        result = _save(databases, prices, clients, min(compared, clients))
        with databases.ours.connect() as connection:
            health = check_sequences(connection, Base)
        _print_result(result)
        console.print()
        print_health(console, health, "the demo's database")
        measures: list[OwnersMeasure] = []
        if portal:
            with Session(databases.ours) as session:
                _print_rates(share_irrs(session))
            measures = _measure(databases.ours)
            _print_measures(measures)
        problems = _problems(result, health, measures)
        if serve_on is not None:
            with needs_extra("portal"):
                from ._serve import serve_portal
            serve_portal(databases.ours.url, serve_on)
        return problems


def _save(databases: _Databases, prices: Sequence[SharePrice], clients: int, compared: int) -> Demo:
    rows = rows_to_save(prices, clients=clients, compared=compared)
    saved = 0
    with progress(aside, "rows") as shown:

        def advance(count: int) -> None:
            nonlocal saved
            saved += count
            shown.update("saving", saved, rows)

        return save_everything(
            databases.ours,
            databases.stock,
            prices,
            clients=clients,
            compared=compared,
            progress=advance,
        )


def _print_result(result: Demo) -> None:
    saved = result.saved
    console.print(
        f"\n{saved.rows:,} rows saved through session.add_all() and commit() in "
        f"{saved.seconds:.1f} s: [bold]{saved.rows_a_second:,.0f} rows a second[/], "
        f"{saved.statements:,} statements."
    )
    compared = [item for item in result.comparisons if item.ours.rows]
    if not compared:
        return
    console.print(
        "\nBeside stock SQLAlchemy: the same rows, in turn, in the same run. The activities' key "
        "is a Sequence that is also the column's server default, as migrations define it; an "
        "identity key is stock's best case."
    )
    for item in compared:
        console.print(
            f"  {item.table}, {item.ours.rows:,} rows: [bold]{item.ratio:.1f} times as fast[/]\n"
            f"    stock {item.stock.seconds:.2f} s, {item.stock.statements:,} statements\n"
            f"    ours  {item.ours.seconds:.2f} s, {item.ours.statements:,} statements"
        )


def _measure(engine: Engine) -> list[OwnersMeasure]:
    saved = 0
    with progress(aside, "bulk saves") as shown:

        def advance(count: int) -> None:
            nonlocal saved
            saved += count
            shown.update("measuring", saved, WRITERS * ROUNDS)

        return measure(engine, progress=advance)


def _print_rates(rates: Sequence[ShareIrr]) -> None:
    console.print("\nWhat the monthly plans brought, all clients together:")
    width = max((len(rate.share) for rate in rates), default=0)
    for rate in rates:
        console.print(
            f"  {rate.share:{width}}  {rate.irr:6.2f} % a year: {rate.invested:,.0f} paid in, "
            f"worth {rate.worth:,.0f} at the end",
            highlight=False,
        )


def _print_measures(measures: Sequence[OwnersMeasure]) -> None:
    console.print("\nWhat the portal's owners measure:")
    for item in measures:
        console.print(
            f"  {'[green]ok[/]   ' if item.met else '[red]short[/]'}  {item.name}: {item.reached}, "
            f"required {item.required}",
            highlight=False,
        )


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
        found.append("a sequence is not healthy: see above")
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
        parsed = url_of(url)
        # The demo works with a synchronous engine, and brings psycopg along.
        is_async = parsed.get_dialect().is_async
        return parsed.set(drivername="postgresql+psycopg") if is_async else parsed
    folder = Path.cwd() / "sqla-seqreserve-demo" if keep else None
    return make_url(stack.enter_context(embedded_postgres(folder)).url)


def _drop(admin: Engine, name: str) -> None:
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
