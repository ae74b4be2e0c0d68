"""The description that a server gives of itself: no two of the family have the same limits."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus

from regie_networks.bounds import MAX_DOMAIN, is_id
from regie_networks.content import ContentRules, MediaKind, MediaRule
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused
from regie_networks.mastodon.client import MastodonClient, count_of, text_of
from regie_networks.mastodon.rules import ALT_TEXT, RESERVED_PER_URL, RULES, TEXT
from regie_networks.mastodon.text import counted_length

KEPT_FOR = timedelta(minutes=10)
KEPT_SERVERS = 256
MAX_TYPES = 100
SOFTWARE = {
    "github.com/mastodon/mastodon": "mastodon",
    "github.com/fedify-dev/hollo": "hollo",
    "github.com/dahlia/hollo": "hollo",
    "github.com/jointakahe/takahe": "takahe",
}
"""By the address of its source, which a fork changes as its licence asks."""
HONOURS_KEYS = frozenset({"mastodon", "hollo"})
"""A repeated `Idempotency-Key` gives the first status. GoToSocial and Takahe, for two, make a second one."""
KEY_LIFE = timedelta(minutes=55)
"""Mastodon keeps a key for an hour; the rest is for clocks and for a call's own time."""
KEEPS_MEDIA_IDS = frozenset({"mastodon", "hollo", "gotosocial", "takahe"})
"""A picture has one id, from its upload to its status."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A server's description of itself. `domain` is the one in its accounts' names; empty where it is missing."""

    domain: str
    rules: ContentRules
    software: str = ""
    """Its name where it is known for sure; empty otherwise."""


class InstanceCache:
    """Instances by server, for ten minutes each. Rules are no secret, so all accounts of a server share them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[datetime, Instance]] = OrderedDict()

    async def read(self, server: MastodonClient) -> Instance:
        now = server.clock.now()
        kept = self._kept.get(server.url)
        if kept is not None and now < kept[0] + KEPT_FOR:
            return kept[1]
        instance = await read_instance(server)
        self._kept[server.url] = (now, instance)
        self._kept.move_to_end(server.url)
        while len(self._kept) > KEPT_SERVERS:
            self._kept.popitem(last=False)
        return instance


async def read_instance(server: MastodonClient) -> Instance:
    """Reads the server's description, in the older form where the newer one fails, as it does on some servers.

    Raises the error of the older form where both fail.
    """
    with suppress(OutcomeUnknown, Refused):
        if instance := await _read(server, "/api/v2/instance", "domain"):
            return instance
    return await _read(server, "/api/v1/instance", "uri") or Instance("", RULES)


async def _read(server: MastodonClient, path: str, domain: str) -> Instance | None:
    response = await server.ask("GET", path, rejected=FailureKind.PLATFORM_ERROR, absent=None)
    if response.status != HTTPStatus.OK:
        return None
    body = response.json()
    if not isinstance(body, dict):  # a page in its place says nothing of the limits, not even that there are none
        raise OutcomeUnknown("The server's description of itself cannot be read")
    return Instance(_domain_of(text_of(body, domain)), rules_of(body), software_of(body))


def _domain_of(said: str) -> str:
    """Returns the server's name, empty for an impossible one: every account's handle ends in it."""
    name = said.rpartition("://")[2].strip("/")
    return name if is_id(name, most=MAX_DOMAIN) and not set(name) & set("/@ ") else ""


def rules_of(body: dict[str, object]) -> ContentRules:
    """Reads either form of the instance; `max_toot_chars` is the limit of servers without a configuration."""
    configuration = body.get("configuration")
    configuration = configuration if isinstance(configuration, dict) else {}
    statuses, media = configuration.get("statuses"), configuration.get("media_attachments")
    max_text = count_of(statuses, "max_characters") or count_of(body, "max_toot_chars") or TEXT.maximum
    max_alt_text = count_of(media, "description_limit") or ALT_TEXT.maximum
    per_url = count_of(statuses, "characters_reserved_per_url") or RESERVED_PER_URL
    return replace(
        RULES,
        title="This server",
        text=(replace(TEXT, maximum=max_text),),
        max_attachments=count_of(statuses, "max_media_attachments") or RULES.max_attachments,
        media=tuple(_media_rule(rule, media) for rule in RULES.media),
        alt_text=replace(ALT_TEXT, maximum=max_alt_text),
        is_per_server=False,
        weigh=partial(counted_length, characters_reserved_per_url=per_url),
    )


def _media_rule(rule: MediaRule, media: object) -> MediaRule:
    types = media.get("supported_mime_types") if isinstance(media, dict) else None
    names = [name for name in types[:MAX_TYPES] if is_id(name)] if isinstance(types, list) else []
    family = rule.content_types[0].partition("*")[0]
    prefix = "video" if rule.kind is MediaKind.VIDEO else "image"
    return replace(
        rule,
        content_types=tuple(name for name in names if name.startswith(family)) if names else rule.content_types,
        max_bytes=count_of(media, f"{prefix}_size_limit") or rule.max_bytes,
        max_pixels=count_of(media, f"{prefix}_matrix_limit") or rule.max_pixels,
    )


def software_of(body: dict[str, object]) -> str:
    """Returns the name of the server's software, or an empty string where it is unknown.

    A fork that calls itself compatible with another software is not that software.
    """
    source = text_of(body, "source_url").lower().rstrip("/").removesuffix(".git").rpartition("://")[2]
    version = text_of(body, "version").lower()
    if "compatible;" in version:
        return ""
    if source.endswith("/gotosocial"):
        return "gotosocial"
    return SOFTWARE.get(source, "takahe" if version.startswith("takahe/") else "")
