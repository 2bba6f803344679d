"""``sqla-seqreserve guide``: the guides that ship with the package, in the terminal."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from typing import Annotated

import typer
from rich.markdown import Markdown

import sqla_seqreserve
from sqla_seqreserve.errors import ConfigurationError

from ._app import LEARN, app
from ._options import errors_as_exit_codes, make_console

__all__ = ["guide"]

_INDEX = "index"


@app.command(rich_help_panel=LEARN)
def guide(
    name: Annotated[
        str | None,
        typer.Argument(help="Which one; without it, all are listed.", show_default=False),
    ] = None,
) -> None:
    """Show a guide.

    On a terminal it is formatted; elsewhere it is printed as Markdown.
    """
    with errors_as_exit_codes():
        guides = _guides()
        console = make_console()
        if name is None:
            width = max(map(len, guides))
            for known, text in guides.items():
                console.print(f"{known:{width}}  {_title(text)}", markup=False, highlight=False)
            return
        wanted = name.removesuffix(".md")
        if wanted not in guides:
            near = get_close_matches(wanted, guides, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"there is no guide {name!r}: expected one of {', '.join(guides)}.{meant}"
            )
        if console.is_terminal:
            console.print(Markdown(guides[wanted], hyperlinks=False))
        else:
            typer.echo(guides[wanted].rstrip("\n"))


def _guides() -> dict[str, str]:
    """Return the guides' texts by name, the index first."""
    found = {
        path.name.removesuffix(".md"): path.read_text(encoding="utf-8")
        for path in files(sqla_seqreserve).joinpath("guides").iterdir()
        if path.name.endswith(".md")
    }
    return {name: found[name] for name in sorted(found, key=lambda n: (n != _INDEX, n))}


def _title(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return first.lstrip("# ").strip()
