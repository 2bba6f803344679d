"""``add_all()`` and ``commit()`` at COPY speed, every primary key reserved from its sequence before the insert."""

from __future__ import annotations

from .errors import SeqReserveError

__all__ = [
    "SeqReserveError",
]
