"""The pages that are no guides: the front page, and one of reference for each public module.

A hook of MkDocs: nothing is written into the checkout.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parent.parent / "sqla_seqreserve"

# What a user imports, in the order in which they will ask for it.
MODULES = (
    "registration",
    "reservation",
    "bulk",
    "aio",
    "health",
    "health.report",
    "reports",
    "errors",
    "alembic_plugin",
    "metrics",
    "web",
    "embedded",
    "testing",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those found in the guides' folder."""
    guides = sorted(file.src_path for file in files.documentation_pages())
    lines = ["# sqla-seqreserve", "", "## Guides", ""]
    lines += [f"- [{_title(PACKAGE / 'guides' / guide)}]({guide})" for guide in guides]
    lines += ["", "## Reference", ""]
    for module in MODULES:
        name = f"sqla_seqreserve.{module}"
        page = f"reference/{module}.md"
        lines.append(f"- [`{name}`]({page})")
        files.append(File.generated(config, page, content=f"# `{name}`\n\n::: {name}\n"))
    if "index.md" not in guides:
        files.append(File.generated(config, "index.md", content="\n".join([*lines, ""])))
    return files


def _title(guide: Path) -> str:
    first = guide.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()
