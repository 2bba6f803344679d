"""On Citus, if asked for: the log and the rates of return distributed, the rest on every node.

``alembic -x citus=distribute upgrade head`` (or ``config.attributes["citus"] = "distribute"``).
Without the option, and on plain PostgreSQL, nothing is done.

A key of a distributed table must contain the column that it is distributed by. The log is
distributed by its key. The rates are distributed by what they are the rates of, which their unique
constraints begin with; their primary keys get it added. ``id`` stays unique by its sequence, whose
values no two nodes share, so the models' keys are as they were.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import context, op

import sqla_seqreserve.alembic_plugin  # noqa: F401

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# In the order of their foreign keys.
REFERENCES = (
    "portfolios",
    "portfolio_funds",
    "client_products",
    "portfolio_fund_valuations",
    "portfolio_valuations",
)
RATES = {"portfolio_fund_irr_values": "fund_id", "portfolio_irr_values": "portfolio_id"}
LOG = "holding_activity_log"


def asked_for() -> bool:
    given = context.get_x_argument(as_dictionary=True).get("citus")
    return (given or context.config.attributes.get("citus")) == "distribute"


def upgrade() -> None:
    if not asked_for():
        return
    for table in REFERENCES:
        op.reference_table(table)
    op.distribute_table(LOG, "id", colocate_with="none")
    for table, column in RATES.items():
        _key(table, column, "id")
        op.distribute_table(table, column, colocate_with="none")


def downgrade() -> None:
    if not asked_for():
        return
    # One call brings back every table that foreign keys connect.
    op.undistribute_table(LOG)
    for table in RATES:
        _key(table, "id")


def _key(table: str, *columns: str) -> None:
    name = op.f(f"pk_{table}")
    op.drop_constraint(name, table, type_="primary")
    op.create_primary_key(name, table, list(columns))
