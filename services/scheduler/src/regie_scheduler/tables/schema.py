"""Every table of the scheduler, as the migrations leave them; alembic compares."""

from __future__ import annotations

from regie_scheduler.tables import idempotency, policies, posts

TABLES = (posts.post, posts.variant, posts.post_change, policies.workspace_policy, idempotency.request)
metadata = posts.post.metadata
