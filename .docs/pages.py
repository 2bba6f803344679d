"""The pages and pictures that do not lie among the guides: one page of reference for each public
module, the changelog, and the charts.

A hook of MkDocs: nothing is written into the checkout. The build fails if the reference lacks a
public name.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

# As the guides name them, for readers of the sources, and as the site has them.
CHARTS = "../../tests/benchmarks/"
IMAGES = "images/"
CHANGES = "changes.md"

# What a user imports, in the order in which they will ask for it.
MODULES = (
    "registration",
    "reservation",
    "bulk",
    "copy_codecs",
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

# What a reader comes for first, where the source has imports before it: all names, in their order.
FIRST = {
    "registration": ("register", "Registration", "Mode"),
    "bulk": (
        "bulk_insert",
        "bulk_upsert",
        "UpsertResult",
        "bulk_update",
        "UpdateResult",
        "bulk_delete",
        "bulk_sync",
        "SyncResult",
        "Rows",
    ),
}

# Public names of the package that live in no public module, and where they are shown.
BESIDE = {"registration": ("Explanation",)}

_documented: set[str] = set()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of reference and the changelog to the navigation."""
    nav: list[Any] = config.nav or []
    nav.append({"Reference": [{f"sqla_seqreserve.{name}": _page(name)} for name in MODULES]})
    nav.append({"Changes": CHANGES})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, the changelog and the charts to what was found in the guides' folder."""
    for module in MODULES:
        name = f"sqla_seqreserve.{module}"
        text = f"# `{name}`\n\n::: {name}\n"
        if module in FIRST:
            names = ", ".join(FIRST[module])
            text += f"    options: {{members: [{names}], group_by_category: false}}\n"
        for beside in BESIDE.get(module, ()):
            text += f"\n::: sqla_seqreserve.{beside}\n    options: {{show_root_heading: true}}\n"
        files.append(File.generated(config, _page(module), content=text))
    files.append(File.generated(config, CHANGES, abs_src_path=str(ROOT / "CHANGELOG.md")))
    for chart in sorted((ROOT / "tests" / "benchmarks").glob("*.svg")):
        files.append(File.generated(config, IMAGES + chart.name, abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have pictures come from where the site has them."""
    return markdown.replace(CHARTS, IMAGES)


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Note which names a page of reference shows."""
    if page.file.src_path.startswith("reference/"):
        _documented.update(re.findall(r'<h\d id="sqla_seqreserve\.(?:\w+\.)*(\w+)"', html))


def on_post_build(**_: Any) -> None:
    """Refuse a reference that lacks a public name."""
    public: set[str] = set()
    for module in ("sqla_seqreserve", *(f"sqla_seqreserve.{name}" for name in MODULES)):
        public.update(import_module(module).__all__)
    missing = public - _documented
    if missing:
        raise PluginError(f"the reference lacks {', '.join(sorted(missing))}")


def _page(module: str) -> str:
    return f"reference/{module}.md"
