"""SQLAlchemy's names for the state of an object and for what an attribute holds."""

from __future__ import annotations

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import CALLABLES_OK, NO_VALUE, PASSIVE_NO_INITIALIZE
from sqlalchemy.orm.collections import collection_adapter

__all__ = [
    "CALLABLES_OK",
    "NO_VALUE",
    "PASSIVE_NO_INITIALIZE",
    "collection_adapter",
    "instance_state",
]
