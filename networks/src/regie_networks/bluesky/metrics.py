"""The numbers of a post from an AppView, under the field's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regie_networks.bounds import MAX_PEOPLE
from regie_networks.draft import Remote
from regie_networks.observation import AccountObservation, Engagement, Observation

_COUNTS = {"likes": "likeCount", "replies": "replyCount", "reposts": "repostCount", "quotes": "quoteCount"}
METRICS = tuple(_COUNTS)
_ACCOUNT_COUNTS = {"followers": "followersCount", "following": "followsCount", "posts": "postsCount"}


def observation(remote: Remote, post: Mapping[str, object]) -> Observation:
    """Reads the totals of a `postView`; an absent total is zero."""
    counts: dict[str, Any] = {ours: post.get(theirs) for ours, theirs in _COUNTS.items()}
    return Observation(remote.id, {name: 0 if count is None else count for name, count in counts.items()})


def account_observation(profile: Mapping[str, object]) -> AccountObservation:
    """Reads the totals of a `profileViewDetailed`."""
    counts: dict[str, Any] = {ours: profile.get(theirs) for ours, theirs in _ACCOUNT_COUNTS.items()}
    return AccountObservation(counts)


def likers(body: Mapping[str, object]) -> tuple[Engagement, ...]:
    """Reads the people of a `getLikes` answer."""
    likes = body.get("likes")
    actors = [like.get("actor") for like in likes if isinstance(like, dict)] if isinstance(likes, list) else []
    return tuple(
        Engagement(_text(actor, "did"), _text(actor, "handle"), "like")
        for actor in actors[:MAX_PEOPLE]
        if isinstance(actor, dict) and "did" in actor
    )


def _text(actor: Mapping[str, object], name: str) -> str:
    value = actor.get(name)
    return value if isinstance(value, str) else ""
