"""What an AppView says about a post, in the field's words."""

from __future__ import annotations

from collections.abc import Mapping

from regie_publisher.connectors.connector import Engagement, Observation, Remote

COUNTS = {"likes": "likeCount", "replies": "replyCount", "reposts": "repostCount", "quotes": "quoteCount"}


def observation(remote: Remote, post: Mapping[str, object]) -> Observation:
    """Reads the totals of a `postView`; one that is left out is zero."""
    counts = {ours: post.get(theirs) for ours, theirs in COUNTS.items()}
    return Observation(remote.id, {name: count if isinstance(count, int) else 0 for name, count in counts.items()})


def likers(body: Mapping[str, object]) -> tuple[Engagement, ...]:
    """Reads the people of a `getLikes` answer."""
    likes = body.get("likes")
    actors = [like.get("actor") for like in likes if isinstance(like, dict)] if isinstance(likes, list) else []
    return tuple(
        Engagement(str(actor["did"]), str(actor.get("handle", "")), "like")
        for actor in actors
        if isinstance(actor, dict) and "did" in actor
    )
