"""How rows reach a table: the COPY writer and what it may write. INSERT stays SQLAlchemy's own."""

from __future__ import annotations
