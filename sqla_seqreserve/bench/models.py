"""The tables that the benchmarks write: some of eight columns, the same with a sequence of its own
or a version counter, parents with children, a tree, a joined inheritance, and a many-to-many.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Numeric,
    Sequence,
    Table,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = [
    "PAYMENT_COLUMNS",
    "Account",
    "Base",
    "Bond",
    "Charge",
    "Contract",
    "Document",
    "Folder",
    "Instalment",
    "Instrument",
    "Node",
    "Payment",
    "PaymentOfSequence",
    "Posting",
    "Receipt",
    "Refund",
    "Reminder",
    "VersionedPayment",
    "folder_document",
]

#: The attributes of ``Payment`` and similar classes, without keys.
PAYMENT_COLUMNS = ("number", "portfolio", "kind", "paid_at", "amount", "booked_at", "note")


class Base(DeclarativeBase):
    """The models of the benchmarks."""


class _EightColumns:
    """A key and seven columns of the usual types."""

    number: Mapped[int]
    portfolio: Mapped[int]
    kind: Mapped[str]
    paid_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))
    amount: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    booked_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))
    note: Mapped[str | None]


class Payment(_EightColumns, Base):
    """An identity key, with which plain SQLAlchemy is fastest."""

    __tablename__ = "bench_payment"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


_numbers = Sequence("bench_numbered_payment_id_seq", metadata=Base.metadata)


class PaymentOfSequence(_EightColumns, Base):
    """The same with a key as migrations that define sequences make it."""

    __tablename__ = "bench_numbered_payment"

    id: Mapped[int] = mapped_column(
        BigInteger, _numbers, server_default=_numbers.next_value(), primary_key=True
    )


class Receipt(_EightColumns, Base):
    """A payment with a unique number, so that it can be stored again."""

    __tablename__ = "bench_receipt"
    __table_args__ = (UniqueConstraint("number"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class Refund(_EightColumns, Base):
    """A second table like the first, without a relationship to it."""

    __tablename__ = "bench_refund"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class Charge(_EightColumns, Base):
    """A third one."""

    __tablename__ = "bench_charge"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class VersionedPayment(_EightColumns, Base):
    """A payment with a version counter."""

    __tablename__ = "bench_versioned_payment"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # as SQLAlchemy documents it


class Contract(_EightColumns, Base):
    """A parent like a payment."""

    __tablename__ = "bench_contract"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class Instalment(_EightColumns, Base):
    """Its child."""

    __tablename__ = "bench_instalment"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    contract_id: Mapped[int] = mapped_column(ForeignKey(Contract.id))
    contract: Mapped[Contract] = relationship()


class Reminder(_EightColumns, Base):
    """The child's child."""

    __tablename__ = "bench_reminder"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    instalment_id: Mapped[int] = mapped_column(ForeignKey(Instalment.id))
    instalment: Mapped[Instalment] = relationship()


class Node(Base):
    """A node of a tree, in a table that refers to itself."""

    __tablename__ = "bench_node"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("bench_node.id"))
    number: Mapped[int]
    name: Mapped[str]
    parent: Mapped[Node | None] = relationship(remote_side="Node.id")


class Account(Base):
    """A parent."""

    __tablename__ = "bench_account"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[int]
    name: Mapped[str]
    postings: Mapped[list[Posting]] = relationship(back_populates="account")


class Posting(Base):
    """A child."""

    __tablename__ = "bench_posting"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id))
    number: Mapped[int]
    amount: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    account: Mapped[Account] = relationship(back_populates="postings")


class Instrument(Base):
    """The parent table of a joined inheritance."""

    __tablename__ = "bench_instrument"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "instrument"}  # noqa: RUF012  # as SQLAlchemy documents it

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]
    number: Mapped[int]
    name: Mapped[str]


class Bond(Instrument):
    """The child table of a joined inheritance."""

    __tablename__ = "bench_bond"
    __mapper_args__ = {"polymorphic_identity": "bond"}  # noqa: RUF012  # as above

    id: Mapped[int] = mapped_column(ForeignKey(Instrument.id), primary_key=True)
    coupon: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    issued_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))


folder_document = Table(
    "bench_folder_document",
    Base.metadata,
    Column("folder_id", ForeignKey("bench_folder.id"), primary_key=True),
    Column("document_id", ForeignKey("bench_document.id"), primary_key=True),
)


class Document(Base):
    """A member of many folders."""

    __tablename__ = "bench_document"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[int]


class Folder(Base):
    """It has many documents."""

    __tablename__ = "bench_folder"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[int]
    documents: Mapped[list[Document]] = relationship(
        secondary=folder_document, order_by=Document.number
    )
