"""What a server allows, read from the server: no two of the family have the same limits."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from regie_networks.bounds import MAX_DOMAIN, is_id
from regie_networks.draft import Picture, Segment
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused, Unacceptable
from regie_networks.mastodon.client import MastodonClient, count_of, text_of
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
class Limits:
    """The defaults are Mastodon's own, for servers that leave a number out. Sizes are bytes; None is no limit."""

    max_characters: int = 500
    max_media_attachments: int = 4
    characters_reserved_per_url: int = 23
    description_limit: int = 1500
    image_size_limit: int | None = None
    image_matrix_limit: int | None = None
    """Pixels."""
    supported_mime_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Instance:
    """What a server says of itself. `domain` is the one in its accounts' names; empty where it does not say."""

    domain: str
    limits: Limits
    software: str = ""
    """Its name where it is known for sure; empty otherwise."""


class InstanceCache:
    """Instances by server, for ten minutes each. Limits are no secret, so all accounts of a server share them."""

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
    """Asks the server, in the older form where the newer one brings nothing: some answer it with an error.

    Raises what the older form brings, where that is no answer either.
    """
    with suppress(OutcomeUnknown, Refused):
        if instance := await _read(server, "/api/v2/instance", "domain"):
            return instance
    return await _read(server, "/api/v1/instance", "uri") or Instance("", Limits())


async def _read(server: MastodonClient, path: str, domain: str) -> Instance | None:
    response = await server.ask("GET", path, rejected=FailureKind.PLATFORM_ERROR, absent=None)
    if response.status != HTTPStatus.OK:
        return None
    body = response.json()
    if not isinstance(body, dict):  # a page in its place says nothing of the limits, not even that there are none
        raise OutcomeUnknown("The server's description of itself cannot be read")
    return Instance(_domain_of(text_of(body, domain)), limits_of(body), software_of(body))


def _domain_of(said: str) -> str:
    """Returns the server's name, empty for what can be none: it ends in the handle of every account."""
    name = said.rpartition("://")[2].strip("/")
    return name if is_id(name, most=MAX_DOMAIN) and not set(name) & set("/@ ") else ""


def limits_of(body: dict[str, object]) -> Limits:
    """Reads either form of the instance; `max_toot_chars` is how servers said it before there was a configuration."""
    configuration = body.get("configuration")
    configuration = configuration if isinstance(configuration, dict) else {}
    statuses, media = configuration.get("statuses"), configuration.get("media_attachments")
    types = media.get("supported_mime_types") if isinstance(media, dict) else None
    names = [name for name in types[:MAX_TYPES] if is_id(name)] if isinstance(types, list) else []
    known = Limits()
    return Limits(
        max_characters=count_of(statuses, "max_characters") or count_of(body, "max_toot_chars") or known.max_characters,
        max_media_attachments=count_of(statuses, "max_media_attachments") or known.max_media_attachments,
        characters_reserved_per_url=count_of(statuses, "characters_reserved_per_url")
        or known.characters_reserved_per_url,
        description_limit=count_of(media, "description_limit") or known.description_limit,
        image_size_limit=count_of(media, "image_size_limit") or None,
        image_matrix_limit=count_of(media, "image_matrix_limit") or None,
        supported_mime_types=frozenset(names),
    )


def software_of(body: dict[str, object]) -> str:
    """Returns the name of the server's software, or an empty string where it is not one that is known here.

    A relative that names itself as compatible with another is not that other.
    """
    source = text_of(body, "source_url").lower().rstrip("/").removesuffix(".git").rpartition("://")[2]
    version = text_of(body, "version").lower()
    if "compatible;" in version:
        return ""
    if source.endswith("/gotosocial"):
        return "gotosocial"
    return SOFTWARE.get(source, "takahe" if version.startswith("takahe/") else "")


def check_segment(segment: Segment, limits: Limits) -> None:
    """Raises `Unacceptable` where the segment breaks one of the server's limits."""
    length = counted_length(segment.text, limits.characters_reserved_per_url)
    if length > limits.max_characters:
        raise Unacceptable(
            FailureKind.CONTENT_REJECTED,
            f"The text has {length} characters, and this server takes {limits.max_characters}",
        )
    if len(segment.pictures) > limits.max_media_attachments:
        raise Unacceptable(
            FailureKind.MEDIA_REJECTED,
            f"There are {len(segment.pictures)} pictures, and this server takes {limits.max_media_attachments}",
        )
    for picture in segment.pictures:
        _check_picture(picture, limits)


def fits_everywhere(text: str) -> bool:
    """True for a text within Mastodon's defaults even if a server counts its links and mentions in full.

    No server of the family is known to take less, so such a text is sent without asking for the limits first.
    """
    known = Limits()
    return max(len(text), counted_length(text, known.characters_reserved_per_url)) <= known.max_characters


def _check_picture(picture: Picture, limits: Limits) -> None:
    if limits.supported_mime_types and picture.content_type not in limits.supported_mime_types:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"This server takes no {picture.content_type}")
    if limits.image_size_limit is not None and picture.size > limits.image_size_limit:
        reason = f"A picture has {picture.size} bytes, and this server takes {limits.image_size_limit}"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, reason)
    pixels = picture.width * picture.height
    if limits.image_matrix_limit is not None and pixels > limits.image_matrix_limit:
        reason = f"A picture has {pixels} pixels, and this server takes {limits.image_matrix_limit}"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, reason)
    if len(picture.alt_text) > limits.description_limit:
        length = len(picture.alt_text)
        reason = f"An alternative text has {length} characters, and this server takes {limits.description_limit}"
        raise Unacceptable(FailureKind.CONTENT_REJECTED, reason)
