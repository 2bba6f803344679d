"""Shows the progress of a benchmark: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_SECONDS: Final = 5.0


@contextmanager
def steps(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call ``total`` times, with the name of what has just been done."""
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("", total=total)
            yield lambda done: bar.update(task, advance=1, description=done, refresh=True)
        return
    started = shown = time.monotonic()
    count = 0

    def step(done: str) -> None:
        nonlocal count, shown
        count += 1
        now = time.monotonic()
        if now - shown >= _SECONDS:
            shown = now
            console.print(
                f"{count} of {total} after {now - started:.0f} s: {done}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    console.print(f"{total} runs", highlight=False)
    yield step


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # A thread that redraws the bar while a way runs would be part of the measurement.
        auto_refresh=False,
    )
