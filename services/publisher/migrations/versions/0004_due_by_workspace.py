"""What is due is looked up workspace by workspace, so that nobody's backlog is read through to get to another's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replaces three indexes. The version before finds the same rows by others, more slowly."""
    pending = sa.text("state = 'pending'")
    open_ended = sa.text("state IN ('processing', 'unknown')")
    due = sa.text("act_time IS NOT NULL")
    op.create_index("delivery_pending_by_workspace", "delivery", ["workspace_id", "act_time"], postgresql_where=pending)
    op.create_index(
        "delivery_open_by_workspace", "delivery", ["state", "workspace_id", "act_time"], postgresql_where=open_ended
    )
    op.create_index("poll_due_by_workspace", "poll", ["workspace_id", "act_time"], postgresql_where=due)
    op.drop_index("delivery_pending", "delivery")
    op.drop_index("delivery_open_ended", "delivery")
    op.drop_index("poll_due", "poll")
