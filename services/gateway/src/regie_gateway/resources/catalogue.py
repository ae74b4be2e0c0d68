"""The list of all resources; routes are tried in this order."""

from __future__ import annotations

from collections.abc import Sequence

from regie_gateway.http.operations import Operations
from regie_gateway.resources.account import api_keys, workspace
from regie_gateway.resources.audience import profiles, segments
from regie_gateway.resources.events import stream
from regie_gateway.resources.insights import post_metrics
from regie_gateway.resources.planning import posts
from regie_gateway.resources.publishing import channels, deliveries, media, networks

# The most frequent come first.
RESOURCES: Sequence[Operations] = (
    posts.operations,
    deliveries.operations,
    post_metrics.operations,
    channels.operations,
    networks.operations,
    media.operations,
    profiles.operations,
    segments.operations,
    stream.operations,
    workspace.operations,
    api_keys.operations,
)
