"""A backlog of one workspace is not read through to get to another's due posts (ADR 0021)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "post_due_by_workspace",
        "post",
        ["workspace_id", "publish_time", "id"],
        postgresql_where=sa.text("state = 'scheduled'"),
    )
