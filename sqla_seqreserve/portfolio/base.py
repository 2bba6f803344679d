"""The declarative base of the portfolio models: key, timestamps, column types, names."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated

from sqlalchemy import BigInteger, Date, DateTime, MetaData, Numeric, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from sqla_seqreserve.health import SequenceHealthMixin

from .owned_sequence import sequence_key

__all__ = ["Base", "Money", "Percentage", "Rate", "UpdatedAtMixin", "utc_now", "utc_today"]

Money = Annotated[Decimal, "money"]
Percentage = Annotated[Decimal, "percentage"]
Rate = Annotated[Decimal, "rate"]


def utc_now() -> dt.datetime:
    """Return the current time, in UTC."""
    return dt.datetime.now(dt.UTC)


def utc_today() -> dt.date:
    """Return the current date, in UTC."""
    return utc_now().date()


class Base(SequenceHealthMixin, DeclarativeBase):
    """A table with a bigint key from its own sequence, and the time of each row's creation.

    Every model checks and repairs its sequence: ``Portfolio.sequence_health(session)``.

    Defaults exist twice, in Python and in the database: rows written by plain SQL get them too, and
    a flush has nothing to read back.
    """

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            # Without the referred table: PostgreSQL cuts names at 63 bytes.
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy declares it as an instance attribute
        int: BigInteger(),
        str: Text(),
        dt.date: Date(),
        dt.datetime: DateTime(timezone=True),
        Money: Numeric(14, 2),
        Percentage: Numeric(5, 2),
        Rate: Numeric(12, 4),
    }

    @declared_attr
    @classmethod
    def id(cls) -> Mapped[int]:
        """The key, from the sequence ``<table>_id_seq``."""
        return sequence_key(cls.__tablename__)

    created_at: Mapped[dt.datetime] = mapped_column(
        default=utc_now, server_default=func.now(), sort_order=1
    )


class UpdatedAtMixin:
    """The time of each row's last change, for the tables whose rows do change."""

    updated_at: Mapped[dt.datetime] = mapped_column(
        default=utc_now, onupdate=utc_now, server_default=func.now(), sort_order=2
    )
