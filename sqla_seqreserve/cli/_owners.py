"""Implements ``sqla-seqreserve demo --portal``: rates of return, and the owners' requirements."""

from __future__ import annotations

from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sqla_seqreserve.portfolio.owners_measures import ROUNDS, WRITERS, measure
from sqla_seqreserve.portfolio.share_irrs import share_irrs

from ._progress import progress

__all__ = ["print_measures", "print_rates"]


def print_rates(console: Console, engine: Engine) -> None:
    """Print the return of each share."""
    with Session(engine) as session:
        rates = share_irrs(session)
    console.print("\nWhat the monthly plans brought, all clients together:")
    width = max((len(rate.share) for rate in rates), default=0)
    for rate in rates:
        console.print(
            f"  {rate.share:{width}}  {rate.irr:6.2f} % a year: {rate.invested:,.0f} paid in, "
            f"worth {rate.worth:,.0f} at the end",
            highlight=False,
        )


def print_measures(console: Console, aside: Console, engine: Engine) -> list[str]:
    """Measure, print each requirement with the value reached, and return those that are not met."""
    saved = 0
    with progress(aside, "bulk saves", threads=False) as shown:

        def advance(count: int) -> None:
            nonlocal saved
            saved += count
            shown.update("measuring", saved, WRITERS * ROUNDS)

        measures = measure(engine, progress=advance)
    console.print("\nWhat the portal's owners measure:")
    for item in measures:
        console.print(
            f"  {'[green]ok[/]   ' if item.met else '[red]short[/]'}  {item.name}: {item.reached}, "
            f"required {item.required}",
            highlight=False,
        )
    return [
        f"{item.name}: required {item.required}, reached {item.reached}"
        for item in measures
        if not item.met
    ]
