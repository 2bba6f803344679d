"""The internal rates of return of funds and of portfolios.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import sqla_seqreserve.alembic_plugin  # noqa: F401

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_sequence("portfolio_fund_irr_values_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolio_fund_irr_values",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolio_fund_irr_values_id_seq')"),
            nullable=False,
        ),
        sa.Column("fund_id", sa.BigInteger, nullable=False),
        sa.Column("date", sa.Date, nullable=False),
        sa.Column("irr_result", sa.Numeric(12, 4), nullable=False),
        sa.Column("fund_valuation_id", sa.BigInteger),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_fund_irr_values")),
        sa.ForeignKeyConstraint(
            ["fund_id"],
            ["portfolio_funds.id"],
            name=op.f("fk_portfolio_fund_irr_values_fund_id"),
        ),
        sa.ForeignKeyConstraint(
            ["fund_valuation_id"],
            ["portfolio_fund_valuations.id"],
            name=op.f("fk_portfolio_fund_irr_values_fund_valuation_id"),
            ondelete="SET NULL",
        ),
        sa.UniqueConstraint(
            "fund_id", "date", name=op.f("uq_portfolio_fund_irr_values_fund_id_date")
        ),
    )
    op.alter_sequence("portfolio_fund_irr_values_id_seq", owned_by="portfolio_fund_irr_values.id")

    op.create_sequence("portfolio_irr_values_id_seq", data_type=sa.BigInteger)
    op.create_table(
        "portfolio_irr_values",
        sa.Column(
            "id",
            sa.BigInteger,
            server_default=sa.text("nextval('portfolio_irr_values_id_seq')"),
            nullable=False,
        ),
        sa.Column("portfolio_id", sa.BigInteger, nullable=False),
        sa.Column("date", sa.Date, nullable=False),
        sa.Column("irr_result", sa.Numeric(12, 4), nullable=False),
        sa.Column("portfolio_valuation_id", sa.BigInteger),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_irr_values")),
        sa.ForeignKeyConstraint(
            ["portfolio_id"], ["portfolios.id"], name=op.f("fk_portfolio_irr_values_portfolio_id")
        ),
        sa.ForeignKeyConstraint(
            ["portfolio_valuation_id"],
            ["portfolio_valuations.id"],
            name=op.f("fk_portfolio_irr_values_portfolio_valuation_id"),
            ondelete="SET NULL",
        ),
        sa.UniqueConstraint(
            "portfolio_id", "date", name=op.f("uq_portfolio_irr_values_portfolio_id_date")
        ),
    )
    op.alter_sequence("portfolio_irr_values_id_seq", owned_by="portfolio_irr_values.id")


def downgrade() -> None:
    # A sequence goes with the column that owns it.
    op.drop_table("portfolio_irr_values")
    op.drop_table("portfolio_fund_irr_values")
