"""What a server allows, read from the server: no two of the family have the same limits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from regie_publisher.connectors.connector import FailureKind, Picture, Refused, Segment
from regie_publisher.connectors.mastodon.server import Server, count_of, text_of
from regie_publisher.connectors.mastodon.text import counted_length
from regie_publisher.connectors.values import MAX_DOMAIN, is_id

KEPT_FOR = timedelta(minutes=10)
KEPT_SERVERS = 256
MAX_TYPES = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are Mastodon's own, for servers that leave a number out. Sizes are bytes; None is no limit."""

    max_characters: int = 500
    max_media_attachments: int = 4
    characters_reserved_per_url: int = 23
    description_limit: int = 1500
    image_size_limit: int | None = None
    supported_mime_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Instance:
    """What a server says of itself. `domain` is the one in its accounts' names; empty where it does not say."""

    domain: str
    limits: Limits


class InstanceCache:
    """Instances by server, for ten minutes each. Limits are no secret, so all accounts of a server share them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[datetime, Instance]] = OrderedDict()

    async def read(self, server: Server) -> Instance:
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


async def read_instance(server: Server) -> Instance:
    """Asks the server, in the older form where it does not know the newer one."""
    for path, domain in (("/api/v2/instance", "domain"), ("/api/v1/instance", "uri")):
        answer = await server.ask("GET", path, rejected=FailureKind.PLATFORM_ERROR, absent=None)
        body = answer.json()
        if answer.status == HTTPStatus.OK and isinstance(body, dict):
            return Instance(_domain_of(text_of(body, domain)), limits_of(body))
    return Instance("", Limits())


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
        supported_mime_types=frozenset(names),
    )


def check_segment(segment: Segment, limits: Limits) -> None:
    """Raises `Refused` where the segment breaks one of the server's limits."""
    length = counted_length(segment.text, limits.characters_reserved_per_url)
    if length > limits.max_characters:
        raise Refused(
            FailureKind.CONTENT_REJECTED,
            f"The text has {length} characters, and this server takes {limits.max_characters}",
        )
    if len(segment.pictures) > limits.max_media_attachments:
        raise Refused(
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
        raise Refused(FailureKind.MEDIA_REJECTED, f"This server takes no {picture.content_type}")
    if limits.image_size_limit is not None and picture.size > limits.image_size_limit:
        reason = f"A picture has {picture.size} bytes, and this server takes {limits.image_size_limit}"
        raise Refused(FailureKind.MEDIA_REJECTED, reason)
    if len(picture.alt_text) > limits.description_limit:
        length = len(picture.alt_text)
        reason = f"An alternative text has {length} characters, and this server takes {limits.description_limit}"
        raise Refused(FailureKind.CONTENT_REJECTED, reason)
