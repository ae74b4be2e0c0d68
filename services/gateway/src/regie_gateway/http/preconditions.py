"""`ETag` and `If-Match`: the tag of a post is its revision (ADR 0023)."""

from __future__ import annotations

import re

from regie_chassis.boundary.errors import Invalid, RegieError

FORM = re.compile(r'(W/)?"([!#-~]*)"')
REVISION = re.compile(r"[1-9][0-9]{0,17}")


class InvalidIfMatch(Invalid):
    """If-Match is neither `*` nor one entity tag."""


class PreconditionFailed(RegieError):
    """The post has another revision than If-Match names."""

    http_status = 412


def etag_of(revision: int) -> str:
    """Returns the entity tag of a revision."""
    return f'"{revision}"'


def read_if_match(header: str | None) -> int:
    """Returns the revision that If-Match names, 0 for any. Raises InvalidIfMatch or PreconditionFailed."""
    if header is None or header.strip() == "*":
        return 0
    form = FORM.fullmatch(header.strip())
    if form is None:
        raise InvalidIfMatch('give one ETag as it was answered, with its quotes, as in "3", or *', field="If-Match")
    weak, tag = form.groups()
    if weak or not REVISION.fullmatch(tag):
        raise PreconditionFailed("no revision has this ETag; read the post again", field="If-Match")
    return int(tag)
