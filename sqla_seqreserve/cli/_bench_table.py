"""The results of the benchmarks as a rich table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from sqla_seqreserve.bench import Requirement, Result

_CAPTION = (
    "Ratio of medians, sqla-seqreserve = 1: how many times as long the way takes; by round: the "
    "median of the ratios within each round."
)
_CAPTION_OF_TARGETS = (
    " Required of sqla-seqreserve: to be at least so many times as fast as the way, or to take at "
    "most so many times its time."
)


def bench_table(results: Sequence[Result], *, targets: bool = False) -> Table:
    """Return a section per measure with one row per way; with the requirements, if asked for."""
    table = Table(
        caption=_CAPTION + (_CAPTION_OF_TARGETS if targets else ""), caption_justify="left"
    )
    table.add_column("work", overflow="fold", max_width=28)
    table.add_column("way", overflow="fold")
    table.add_column("median", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("by round", justify="right")
    if targets:
        table.add_column("required", overflow="fold")
    for result in results:
        required = {found.required.against: found for found in result.requirements}
        for number, way in enumerate(result.samples):
            table.add_row(
                _work(result) if number == 0 else "",
                Text(way, "bold" if way == result.measure.ours else ""),
                _figure(result.median(way), result.measure.unit),
                _ratio(result.ratio(way)),
                _ratio(result.pairwise_ratio(way)),
                *([_requirement(required.get(way))] if targets else []),
            )
        table.add_section()
    return table


def machine_line(machine: Mapping[str, str]) -> str:
    """Return the machine of the measurement, in one line."""
    named = [machine["processor"], machine["system"], machine["python"]]
    return ", ".join(
        [*named, *(f"{key} {value}" for key, value in machine.items() if value not in named)]
    )


def _work(result: Result) -> Text:
    work = result.work
    noun = "object" if work.rows == 1 else "parent"
    size = f"{work.objects:,} {noun}{'' if work.objects == 1 else 's'}"
    many = f" x {work.repeat} commits" if work.repeat > 1 else ""
    return Text.assemble(
        result.title, "\n", (f"{size}{many}, {work.rounds} rounds, {result.driver}", "dim")
    )


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} MB" if unit == "MB" else f"{value:,.1f} µs/object"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _requirement(found: Requirement | None) -> Text:
    if found is None:
        return Text("")
    required = found.required
    mark, style = ("ok", "green") if found.ok else ("short", "yellow")
    return Text.assemble(
        (mark, style), f" {found.reached:.2f}x, {required.kind} {required.times:g}x"
    )
