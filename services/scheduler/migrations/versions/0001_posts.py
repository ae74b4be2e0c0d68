"""Posts, their variants and changes, what workspaces decided, and the requests carried out."""

from __future__ import annotations

from alembic import op
from regie_chassis.data.migrations import create_messaging_tables

revision = "0001"
down_revision = None

STATES = (
    "draft", "in_review", "approved", "scheduled", "dispatched",
    "published", "partially_published", "failed", "missed", "cancelled", "expired",
)  # fmt: skip


def upgrade() -> None:
    create_messaging_tables()
    states = ", ".join(f"'{state}'" for state in STATES)
    # Every post is updated at least twice in a few seconds, hence the room on each page and the eager vacuum: what a
    # burst leaves dead at the front of post_due is what the next claim has to step over.
    op.execute(
        f"""
        CREATE TABLE post (
            id uuid PRIMARY KEY,
            workspace_id uuid NOT NULL,
            title text NOT NULL,
            state text NOT NULL,
            publish_local_time text NOT NULL DEFAULT '',
            time_zone text NOT NULL DEFAULT '',
            publish_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            cancel_time timestamptz,
            traceparent text NOT NULL DEFAULT '',
            CONSTRAINT post_state CHECK (state IN ({states})),
            CONSTRAINT post_scheduled_has_time CHECK (state <> 'scheduled' OR publish_time IS NOT NULL)
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)
        """
    )
    op.execute("CREATE INDEX post_due ON post (publish_time, id) WHERE state = 'scheduled'")
    op.execute("CREATE INDEX post_workspace ON post (workspace_id, id)")
    op.execute("CREATE INDEX post_workspace_state ON post (workspace_id, state, id)")
    op.execute(
        """
        CREATE TABLE variant (
            post_id uuid NOT NULL REFERENCES post (id) ON DELETE CASCADE,
            channel_id uuid NOT NULL,
            position integer NOT NULL,
            content bytea NOT NULL,
            state text NOT NULL DEFAULT 'planned',
            remote_id text NOT NULL DEFAULT '',
            remote_url text NOT NULL DEFAULT '',
            failure text NOT NULL DEFAULT '',
            PRIMARY KEY (post_id, channel_id)
        ) WITH (fillfactor = 70)
        """
    )
    op.execute(
        """
        CREATE TABLE post_change (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            post_id uuid NOT NULL,
            time timestamptz NOT NULL,
            state text NOT NULL,
            cause text NOT NULL,
            channel_id uuid,
            detail text NOT NULL,
            trace_id text NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX post_change_post ON post_change (post_id, id)")
    op.execute(
        """
        CREATE TABLE workspace_policy (
            workspace_id uuid PRIMARY KEY,
            missed_after interval NOT NULL,
            update_time timestamptz NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE request (
            workspace_id uuid NOT NULL,
            request_id text NOT NULL,
            method text NOT NULL,
            post_id uuid NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (workspace_id, request_id)
        )
        """
    )
    op.execute("CREATE INDEX request_create_time ON request (create_time)")
