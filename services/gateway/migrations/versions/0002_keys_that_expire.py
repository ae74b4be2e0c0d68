"""Keys that expire and know their maker; names of workspaces that need not be unique."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("api_key", sa.Column("expire_time", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("parent_id", postgresql.UUID))
    # Operators find a workspace by the name that it was made under; a tenant's name for it tells others nothing.
    op.add_column("workspace", sa.Column("bootstrap_name", sa.Text))
    op.execute("UPDATE workspace SET bootstrap_name = name")
    op.create_unique_constraint("workspace_bootstrap_name_key", "workspace", ["bootstrap_name"])
    op.drop_constraint("workspace_name_key", "workspace")
