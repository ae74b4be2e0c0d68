"""Which delivery a variant became, and why it failed: what PostFinished tells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("variant", sa.Column("failure_kind", sa.Text, nullable=False, server_default=""))
    op.add_column("variant", sa.Column("delivery_id", sa.Text, nullable=False, server_default=""))
