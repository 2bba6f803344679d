"""Shows how far a command is: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

# After this many seconds without output a program seems to hang.
_SECONDS = 5.0


class Shown(Protocol):
    """Receives the progress of a command."""

    def update(self, stage: str, done: int, total: int | None) -> None:
        """Report how much of a stage is done; a new name begins a stage."""


@contextmanager
def progress(console: Console, unit: str, *, threads: bool = True) -> Iterator[Shown]:
    """Show the progress of the block, and remove the bar at its end.

    :param unit: what is counted, in the plural
    :param threads: let a thread redraw the bar meanwhile; not while speed is measured
    """
    if not console.is_terminal:
        yield _Lines(console, unit)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        auto_refresh=threads,
    )
    with bar:
        yield _Bar(bar, refresh=not threads)


@contextmanager
def steps(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of a benchmark: yield a function to call ``total`` times, with the name of
    what has just been done.
    """
    if not console.is_terminal:
        console.print(f"{total} runs", highlight=False)
    done = 0
    with progress(console, "runs", threads=False) as shown:

        def step(name: str) -> None:
            nonlocal done
            done += 1
            shown.update(name, done, total)

        yield step


class _Bar:
    def __init__(self, bar: Progress, *, refresh: bool) -> None:
        self._bar = bar
        self._refresh = refresh
        self._task = bar.add_task("", total=None)

    def update(self, stage: str, done: int, total: int | None) -> None:
        self._bar.update(
            self._task, description=stage, completed=done, total=total, refresh=self._refresh
        )


class _Lines:
    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._unit = unit
        self._began = self._told = monotonic()

    def update(self, stage: str, done: int, total: int | None) -> None:
        now = monotonic()
        if now - self._told < _SECONDS:
            return
        self._told = now
        of = f" of {total:,}" if total is not None else ""
        self._console.print(
            f"{stage}: {done:,}{of} {self._unit}, {now - self._began:.0f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
