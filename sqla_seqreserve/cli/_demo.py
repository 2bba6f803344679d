"""What ``sqla-seqreserve demo`` does and prints; imported when the command runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url, text

from sqla_seqreserve.embedded import embedded_postgres
from sqla_seqreserve.health import HealthReport, check_sequences
from sqla_seqreserve.portfolio.base import Base
from sqla_seqreserve.portfolio.demo import Demo, save_everything
from sqla_seqreserve.portfolio.imported_ids import ImportedIds, import_and_repair
from sqla_seqreserve.portfolio.monthly_plans import planned_rows
from sqla_seqreserve.portfolio.schema import upgrade
from sqla_seqreserve.portfolio.share_prices import SharePrice, read_share_prices

from ._database import url_of
from ._options import make_console, needs_extra
from ._progress import progress
from ._reports import count, print_health

console = make_console()
aside = make_console(stderr=True)


@dataclass(frozen=True, slots=True)
class _Databases:
    """The demo's two databases: ours, and plain SQLAlchemy's."""

    ours: Engine
    plain: Engine


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

    :param portal: also calculate the portal's rates of return, and measure its owners' requirements
    :param serve_on: serve the portal on this port afterwards, until a signal ends it
    """
    with ExitStack() as stack:
        if portal:
            # Before anything is saved: it takes numpy and scipy, which the demo does without.
            with needs_extra("portfolio"):
                from ._owners import print_measures, print_rates
        databases = stack.enter_context(_databases(url, keep=keep))
        prices = read_share_prices()
        console.print(
            f"Saving what {clients} clients with a monthly plan in each of five shares would have "
            "logged from 2000 to 2010, and as many valuations."
        )
        result = _save(databases, prices, clients, min(compared, clients))
        _print_result(result)
        imported = import_and_repair(databases.ours)
        _print_imported(imported)
        with databases.ours.connect() as connection:
            health = check_sequences(connection, Base)
        console.print()
        print_health(console, health, "the demo's database")
        problems = _problems(result, imported, health)
        if portal:
            print_rates(console, databases.ours)
            problems += print_measures(console, aside, databases.ours)
        if serve_on is not None:
            with needs_extra("portal"):
                from ._serve import serve_portal
            serve_portal(databases.ours.url, serve_on)
        return problems


def _save(databases: _Databases, prices: Sequence[SharePrice], clients: int, compared: int) -> Demo:
    rows = sum(planned_rows(prices, clients=clients).values())
    saved = 0
    with progress(aside, "rows", threads=False) as shown:

        def advance(count: int) -> None:
            nonlocal saved
            saved += count
            shown.update("saving", saved, rows)

        return save_everything(
            databases.ours,
            databases.plain,
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
    if not result.comparisons:
        return
    rounds = len(result.comparisons[0].ours)
    console.print(
        "\nBeside plain SQLAlchemy, the same rows in turn. The activities' key is a Sequence that "
        "is also the column's server default, as migrations define it; an identity key is what "
        "plain SQLAlchemy is fastest with."
    )
    for item in result.comparisons:
        console.print(
            f"  {item.table}, {item.rows:,} rows in {count(rounds, 'round')}: "
            f"[bold]{item.ratio:.1f} times as fast[/]"
        )
        for name, measures in (("plain", item.plain), ("registered", item.ours)):
            seconds = sum(measure.seconds for measure in measures)
            statements = sum(measure.statements for measure in measures)
            console.print(f"    {name:10} {seconds:5.2f} s, {statements:,} statements")


def _print_imported(done: ImportedIds) -> None:
    behind, repair = done.behind, done.repair
    refusal = done.refusal or "was taken, which nobody expected"
    console.print(
        f"\nThen {done.rows} portfolios are imported with the ids that they had elsewhere:\n"
        f"  health: {behind.sequence} hands out {behind.next_value} next, and its table reaches "
        f"{behind.table_max_id}: {behind.status}, {behind.gap} ids behind\n"
        f"  the next save: {refusal}\n"
        f"  repair: {repair.action}, {behind.sequence} moved from {repair.old_value} to "
        f"{repair.new_value}\n"
        f"  the same save again: id {done.saved}",
        markup=False,
        highlight=False,
    )


def _problems(result: Demo, imported: ImportedIds, health: HealthReport) -> list[str]:
    found = [
        f"{model.__tablename__} holds {result.found[model]:,} rows, expected {expected:,}"
        for model, expected in result.planned.items()
        if result.found[model] != expected
    ]
    if imported.behind.gap != imported.rows or imported.repair.action != "REPAIRED":
        found.append("the drift that an import leaves was not found and repaired: see above")
    if not health.healthy:
        found.append("a sequence is not healthy: see above")
    return found


@contextmanager
def _databases(url: str | None, *, keep: bool) -> Iterator[_Databases]:
    """Create the demo's databases, migrate them, and drop them again."""
    folder = Path.cwd() / "sqla-seqreserve-demo" if keep else None
    with ExitStack() as stack:
        found = _found_server(url)
        server = found or make_url(stack.enter_context(embedded_postgres(folder)).url)
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
        _print_kept(server.set(database=names[0]), None if found else folder)


def _found_server(url: str | None) -> URL | None:
    """The server that the command's option or the environment names."""
    url = url or os.environ.get("SQLA_SEQRESERVE_URL")
    if not url:
        return None
    parsed = url_of(url)
    # The demo works with a synchronous engine, and brings psycopg along.
    is_async = parsed.get_dialect().is_async
    return parsed.set(drivername="postgresql+psycopg") if is_async else parsed


def _print_kept(database: URL, folder: Path | None) -> None:
    if folder is None:
        shown = database.render_as_string(hide_password=True)
        console.print(f"The database is kept: {shown}", markup=False, highlight=False)
        return
    # The embedded server ends with its last user, and its URL would lead nowhere.
    console.print(
        f"The database is kept in {folder}. Its server has stopped; this starts it again:\n"
        f"  with embedded_postgres({str(folder)!r}) as server:\n"
        f"      engine = create_engine(server.database_url({database.database!r}))",
        markup=False,
        highlight=False,
    )


def _drop(admin: Engine, name: str) -> None:
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
