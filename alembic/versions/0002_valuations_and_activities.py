"""Valuations of funds and portfolios, and the log of holding activities.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import sqla_seqreserve.alembic_plugin  # noqa: F401

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_sequence("portfolio_fund_valuations_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolio_fund_valuations",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolio_fund_valuations_id_seq')"),
            nullable=False,
        ),
        sa.Column("portfolio_fund_id", sa.BigInteger, nullable=False),
        sa.Column("valuation_date", sa.Date, nullable=False),
        sa.Column("valuation", sa.Numeric(14, 2), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_fund_valuations")),
        sa.ForeignKeyConstraint(
            ["portfolio_fund_id"],
            ["portfolio_funds.id"],
            name=op.f("fk_portfolio_fund_valuations_portfolio_fund_id"),
        ),
        sa.UniqueConstraint(
            "portfolio_fund_id",
            "valuation_date",
            name=op.f("uq_portfolio_fund_valuations_portfolio_fund_id_valuation_date"),
        ),
    )
    op.alter_sequence("portfolio_fund_valuations_id_seq", owned_by="portfolio_fund_valuations.id")

    op.create_sequence("portfolio_valuations_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolio_valuations",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolio_valuations_id_seq')"),
            nullable=False,
        ),
        sa.Column("portfolio_id", sa.BigInteger, nullable=False),
        sa.Column("valuation_date", sa.Date, nullable=False),
        sa.Column("valuation", sa.Numeric(14, 2), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_valuations")),
        sa.ForeignKeyConstraint(
            ["portfolio_id"], ["portfolios.id"], name=op.f("fk_portfolio_valuations_portfolio_id")
        ),
        sa.UniqueConstraint(
            "portfolio_id",
            "valuation_date",
            name=op.f("uq_portfolio_valuations_portfolio_id_valuation_date"),
        ),
    )
    op.alter_sequence("portfolio_valuations_id_seq", owned_by="portfolio_valuations.id")

    op.create_sequence("holding_activity_log_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "holding_activity_log",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('holding_activity_log_id_seq')"),
            nullable=False,
        ),
        sa.Column("product_id", sa.BigInteger, nullable=False),
        sa.Column("portfolio_fund_id", sa.BigInteger, nullable=False),
        sa.Column("activity_type", sa.Text, nullable=False),
        sa.Column("activity_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount", sa.Numeric(14, 2)),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holding_activity_log")),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["client_products.id"],
            name=op.f("fk_holding_activity_log_product_id"),
        ),
        sa.ForeignKeyConstraint(
            ["portfolio_fund_id"],
            ["portfolio_funds.id"],
            name=op.f("fk_holding_activity_log_portfolio_fund_id"),
        ),
    )
    op.alter_sequence("holding_activity_log_id_seq", owned_by="holding_activity_log.id")
    for column in ("product_id", "portfolio_fund_id", "activity_timestamp"):
        op.create_index(op.f(f"ix_holding_activity_log_{column}"), "holding_activity_log", [column])


def downgrade() -> None:
    # A sequence goes with the column that owns it.
    op.drop_table("holding_activity_log")
    op.drop_table("portfolio_valuations")
    op.drop_table("portfolio_fund_valuations")
