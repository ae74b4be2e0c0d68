"""Networks: where channels can be connected, and what each network takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from regie.publisher.v1 import networks_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import View
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.overrides import From

SOURCE = "The page that states it; null where it is not on the web."
DATE = "The day on which the page was read; null where `source_url` is."
ONCE = (
    "What makes a call that is made twice one post. `own_key`: a key of our own. `server_key`: a key that the server "
    "honours for a while. `commit_state`: the commit of a prepared post has a state that can be asked for. "
    "`duplicate_refused`: the network refuses the same content twice. `none`: nothing; a post is sent again only once "
    "reading the account has proven its absence."
)

operations = Operations("networks", "Where channels can be connected.")


def _date_of(stated: pb.ContentLimit | pb.MediaRule) -> str | None:
    return stated.source_date if stated.source_url else None


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
        description=(
            "Bytes of UTF-8; characters are code points of Unicode; graphemes are what a reader takes for one sign, as "
            "an emoji of several code points. Weighted counts graphemes, with links and mentions as the network's page "
            "says: on Mastodon a link is 23, and of a mention its server does not count."
        )
    )
    source_url: Annotated[str | None, From(lambda limit: limit.source_url or None)] = Field(description=SOURCE)
    source_date: Annotated[str | None, From(_date_of)] = Field(description=DATE)


class MediaRuleView(View):
    """The attachments of one kind that a network takes."""

    kind: Literal["image", "animation", "video"]
    content_types: list[str]
    max_bytes: Annotated[int | None, From(lambda rule: rule.max_bytes or None)]
    max_pixels: Annotated[int | None, From(lambda rule: rule.max_pixels or None)]
    fitted: bool = Field(description="A larger one is made smaller before it is sent.")
    source_url: Annotated[str | None, From(lambda rule: rule.source_url or None)] = Field(description=SOURCE)
    source_date: Annotated[str | None, From(_date_of)] = Field(description=DATE)


class NetworkView(View):
    """A network."""

    name: str = Field(description="The `network` of POST /v1/channels.")
    title: str
    documentation_url: Annotated[str | None, From(lambda network: network.documentation_url or None)] = Field(
        description="The network's own documentation; null where it has none on the web."
    )
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
    once: Literal["own_key", "server_key", "commit_state", "duplicate_refused", "none"] = Field(description=ONCE)


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
async def list_networks(context: RequestContext) -> pb.ListNetworksResponse:
    return await context.call(context.backends.networks.ListNetworks, pb.ListNetworksRequest())
