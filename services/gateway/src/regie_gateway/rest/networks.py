"""Networks: where channels can be connected, and what each network takes."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import Field
from regie.publisher.v1 import networks_service_pb2 as pb

from regie_gateway.rest.edge import call_of, reply
from regie_gateway.rest.fields import View
from regie_gateway.rest.operations import Operations

operations = Operations("networks")


class CredentialFieldView(View):
    """One of the credentials of an account."""

    name: str
    label: str
    help: str
    secret: bool
    required: bool


class ContentLimitView(View):
    """A limit of a text, and the page that states it."""

    maximum: int
    unit: Literal["bytes", "characters", "graphemes", "weighted"] = Field(
        description="Weighted: links and mentions count as the network's page says."
    )
    source_url: str
    source_date: str = Field(description="The day on which the page was read.")


class MediaRuleView(View):
    """The attachments of one kind that a network takes."""

    kind: Literal["image", "animation", "video"]
    content_types: list[str]
    max_bytes: int | None
    max_pixels: int | None
    fitted: bool = Field(description="A larger one is made smaller before it is sent.")
    source_url: str
    source_date: str


class NetworkView(View):
    """A network."""

    name: str = Field(description="The `network` of POST /v1/channels.")
    title: str
    documentation_url: str
    guide: str
    server_address: Literal["required", "optional", "none"]
    main_server: str = Field(description="Used where no `server_url` is given.")
    credentials: list[CredentialFieldView]
    formats: list[str]
    visibilities: list[str]
    text_limits: list[ContentLimitView] = Field(description="Of one part; all of them hold.")
    max_attachments: int = Field(description="Of one part.")
    media_rules: list[MediaRuleView]
    alt_text_limit: ContentLimitView | None
    limits_per_server: bool = Field(description="Each server has its own limits; these are of one that states none.")
    metrics: list[str]
    account_metrics: list[str]
    verbs: list[str]
    once: Literal["own_key", "server_key", "commit_state", "duplicate_refused", "none"] = Field(
        description="How a post is published once."
    )


class NetworkList(View):
    """All networks."""

    networks: list[NetworkView]


@operations.add(
    "GET",
    "/v1/networks",
    scope="channels:read",
    summary="List networks",
    description="The networks that channels can be connected on, by name: credentials, limits, formats and numbers.",
    answer=NetworkList,
)
async def list_networks(request: Request) -> Response:
    call = call_of(request)
    response = await call.ask(call.edge.backends.networks.ListNetworks, pb.ListNetworksRequest())
    return reply({"networks": [show_network(network) for network in response.networks]})


def show_network(network: pb.Network) -> dict[str, Any]:
    """Returns a network as JSON."""
    alt_text_limit = show_limit(network.alt_text_limit) if network.HasField("alt_text_limit") else None
    return {
        "name": network.name,
        "title": network.title,
        "documentation_url": network.documentation_url,
        "guide": network.guide,
        "server_address": network.server_address,
        "main_server": network.main_server,
        "credentials": [
            {
                "name": field.name,
                "label": field.label,
                "help": field.help,
                "secret": field.secret,
                "required": field.required,
            }
            for field in network.credentials
        ],
        "formats": list(network.formats),
        "visibilities": list(network.visibilities),
        "text_limits": [show_limit(limit) for limit in network.text_limits],
        "max_attachments": network.max_attachments,
        "media_rules": [show_media_rule(rule) for rule in network.media_rules],
        "alt_text_limit": alt_text_limit,
        "limits_per_server": network.limits_per_server,
        "metrics": list(network.metrics),
        "account_metrics": list(network.account_metrics),
        "verbs": list(network.verbs),
        "once": network.once,
    }


def show_limit(limit: pb.ContentLimit) -> dict[str, Any]:
    """Returns a limit as JSON."""
    return {
        "maximum": limit.maximum,
        "unit": limit.unit,
        "source_url": limit.source_url,
        "source_date": limit.source_date,
    }


def show_media_rule(rule: pb.MediaRule) -> dict[str, Any]:
    """Returns a rule for attachments as JSON; a limit of 0 is none."""
    return {
        "kind": rule.kind,
        "content_types": list(rule.content_types),
        "max_bytes": rule.max_bytes or None,
        "max_pixels": rule.max_pixels or None,
        "fitted": rule.fitted,
        "source_url": rule.source_url,
        "source_date": rule.source_date,
    }
