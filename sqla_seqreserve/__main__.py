"""``python -m sqla_seqreserve``."""

from __future__ import annotations

from .cli import main

main()
