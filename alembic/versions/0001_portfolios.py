"""Portfolios, their funds, and the products that clients hold them through.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import sqla_seqreserve.alembic_plugin  # noqa: F401

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_sequence("portfolios_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolios",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolios_id_seq')"),
            nullable=False,
        ),
        sa.Column("portfolio_name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="active", nullable=False),
        sa.Column("start_date", sa.Date, server_default=sa.func.current_date(), nullable=False),
        sa.Column("end_date", sa.Date),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolios")),
    )
    op.alter_sequence("portfolios_id_seq", owned_by="portfolios.id")

    op.create_sequence("portfolio_funds_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolio_funds",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolio_funds_id_seq')"),
            nullable=False,
        ),
        sa.Column("portfolio_id", sa.BigInteger, nullable=False),
        sa.Column("fund_name", sa.Text, nullable=False),
        sa.Column("isin_number", sa.Text),
        sa.Column("target_weighting", sa.Numeric(5, 2)),
        sa.Column("amount_invested", sa.Numeric(14, 2), server_default="0", nullable=False),
        sa.Column("start_date", sa.Date, server_default=sa.func.current_date(), nullable=False),
        sa.Column("end_date", sa.Date),
        sa.Column("status", sa.Text, server_default="active", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_funds")),
        sa.ForeignKeyConstraint(
            ["portfolio_id"], ["portfolios.id"], name=op.f("fk_portfolio_funds_portfolio_id")
        ),
    )
    op.alter_sequence("portfolio_funds_id_seq", owned_by="portfolio_funds.id")

    op.create_sequence("client_products_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "client_products",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('client_products_id_seq')"),
            nullable=False,
        ),
        sa.Column("product_name", sa.Text, nullable=False),
        sa.Column("product_type", sa.Text),
        sa.Column("status", sa.Text, server_default="active", nullable=False),
        sa.Column("start_date", sa.Date, server_default=sa.func.current_date(), nullable=False),
        sa.Column("end_date", sa.Date),
        sa.Column("portfolio_id", sa.BigInteger, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_products")),
        sa.ForeignKeyConstraint(
            ["portfolio_id"], ["portfolios.id"], name=op.f("fk_client_products_portfolio_id")
        ),
    )
    op.alter_sequence("client_products_id_seq", owned_by="client_products.id")


def downgrade() -> None:
    # A sequence goes with the column that owns it.
    op.drop_table("client_products")
    op.drop_table("portfolio_funds")
    op.drop_table("portfolios")
