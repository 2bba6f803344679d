"""The two lines of SQLAlchemy, where they name a thing differently."""

from __future__ import annotations

from typing import Any


def either(module: Any, name: str) -> Any:
    """The private ``name`` of 2.0, or its 2.1 spelling with an underscore."""
    return getattr(module, name, None) or getattr(module, f"_{name}")
