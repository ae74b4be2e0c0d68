"""The check of a draft against a network's rules, before any call."""

from __future__ import annotations

from fnmatch import fnmatchcase

from regie_networks.content import ContentRules, Limit, MediaKind, Unit
from regie_networks.draft import Attachment, Draft, Segment, Video, format_of
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.graphemes import count_graphemes

_UNITS = {
    Unit.BYTES: "bytes",
    Unit.CHARACTERS: "characters",
    Unit.GRAPHEMES: "characters",
    Unit.WEIGHTED: "characters",
}


def review_draft(rules: ContentRules, draft: Draft) -> None:
    """Raises `Unacceptable` for the first rule that the draft breaks."""
    if not draft.segments:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, "A post has at least one part")
    if draft.visibility and draft.visibility not in rules.visibilities:
        known = ", ".join(rules.visibilities)
        message = f"{rules.title} has no visibility {draft.visibility!r}; choose one of {known}"
        raise Unacceptable(FailureKind.UNSUPPORTED, message)
    if (kind := format_of(draft)) not in rules.formats:
        known = ", ".join(rules.formats)
        raise Unacceptable(FailureKind.UNSUPPORTED, f"{rules.title} has no format {kind}; choose one of {known}")
    for number, segment in enumerate(draft.segments, start=1):
        where = f"Part {number}" if len(draft.segments) > 1 else "The post"
        _check_filled(segment, where)
        if not rules.is_per_server:
            check_segment(rules, segment, where)


def check_segment(rules: ContentRules, segment: Segment, where: str = "The post") -> None:
    """Raises `Unacceptable` where a part's text or attachments are too long, too many, too large or of no kind here."""
    for limit in rules.text:
        _check_length(rules, segment.text, limit, f"The text of {where[0].lower()}{where[1:]}")
    count = len(segment.attachments)
    if count > rules.max_attachments:
        message = f"{where} has {count} attachments; {rules.title} takes {rules.max_attachments}"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
    if segment.video is not None and segment.pictures:
        message = f"{where} has a video and pictures: a video stands alone"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
    for attachment in segment.attachments:
        _check_attachment(rules, attachment)
        if rules.alt_text is not None:
            _check_length(rules, attachment.alt_text, rules.alt_text, "An alternative text")


def count(rules: ContentRules, text: str, unit: Unit) -> int:
    """Counts a text as the network does. Raises `Unacceptable` for text that is no valid Unicode."""
    match unit:
        case Unit.BYTES:
            try:
                return len(text.encode())
            except UnicodeEncodeError as error:
                raise Unacceptable(FailureKind.CONTENT_REJECTED, "The text is no valid Unicode") from error
        case Unit.CHARACTERS:
            return len(text)
        case Unit.GRAPHEMES:
            return count_graphemes(text)
        case Unit.WEIGHTED:
            return rules.weigh(text)


def kind_of(attachment: Attachment) -> MediaKind:
    """Returns the kind of an attachment."""
    if isinstance(attachment, Video):
        return MediaKind.VIDEO
    return MediaKind.ANIMATION if attachment.frames > 1 else MediaKind.IMAGE


def _check_filled(segment: Segment, where: str) -> None:
    if not segment.text.strip() and not segment.attachments:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, f"{where} is empty: give it a text or an attachment")


def _check_length(rules: ContentRules, text: str, limit: Limit, what: str) -> None:
    length = count(rules, text, limit.unit)
    if length > limit.maximum:
        message = f"{what} has {length} {_UNITS[limit.unit]}; {rules.title} takes {limit.maximum}"
        raise Unacceptable(FailureKind.CONTENT_REJECTED, message)


def _check_attachment(rules: ContentRules, attachment: Attachment) -> None:
    kind = kind_of(attachment)
    rule = rules.media_rule(kind)
    if rule is None:
        known = " or ".join(rule.kind for rule in rules.media)
        message = f"{rules.title} takes no {kind}: attach {known}"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, rules.refusals.get(kind, message))
    if not any(fnmatchcase(attachment.content_type, pattern) for pattern in rule.content_types):
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"{rules.title} takes no {attachment.content_type}")
    if rule.is_fitted:
        return
    pixels = attachment.width * attachment.height
    for size, maximum, unit in ((attachment.size, rule.max_bytes, "bytes"), (pixels, rule.max_pixels, "pixels")):
        if maximum is not None and size > maximum:
            message = f"An attachment has {size} {unit}; {rules.title} takes {maximum} for {kind}"
            raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
