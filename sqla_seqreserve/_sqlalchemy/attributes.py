"""SQLAlchemy's names for the state of an object and for what an attribute holds."""

from __future__ import annotations
