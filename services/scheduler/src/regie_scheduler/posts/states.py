"""The whole life of a post as a table, and how the fates of its deliveries add up to its state.

Nothing here touches the database; `posts`, `due` and `deliveries` ask it before they write.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from regie_chassis.errors import Conflict


class PostState(StrEnum):
    """Where a post stands."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    DISPATCHED = "dispatched"
    PUBLISHED = "published"
    PARTIALLY_PUBLISHED = "partially_published"
    FAILED = "failed"
    MISSED = "missed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class VariantState(StrEnum):
    """Where the delivery to one channel stands, as far as the publisher has told."""

    PLANNED = "planned"
    PENDING = "pending"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What may be done to a post. What the publisher tells is not an action: see `roll_up`."""

    EDIT = "edit"
    SUBMIT = "submit"
    APPROVE = "approve"
    SCHEDULE = "schedule"
    CANCEL = "cancel"
    DISPATCH = "dispatch"
    MISS = "miss"
    EXPIRE = "expire"


class PostStateConflict(Conflict):
    """The post's state does not allow the action now."""


EDITED_AFTER_APPROVAL = PostState.IN_REVIEW
"""What becomes of an approved post that is edited: it is reviewed again."""

TRANSITIONS: Mapping[Action, Mapping[PostState, PostState]] = {
    Action.EDIT: {
        PostState.DRAFT: PostState.DRAFT,
        PostState.IN_REVIEW: PostState.IN_REVIEW,
        PostState.APPROVED: EDITED_AFTER_APPROVAL,
        PostState.SCHEDULED: PostState.SCHEDULED,
    },
    Action.SUBMIT: {PostState.DRAFT: PostState.IN_REVIEW},
    Action.APPROVE: {PostState.IN_REVIEW: PostState.APPROVED},
    Action.SCHEDULE: {
        PostState.DRAFT: PostState.SCHEDULED,
        PostState.APPROVED: PostState.SCHEDULED,
        PostState.SCHEDULED: PostState.SCHEDULED,
    },
    Action.CANCEL: {
        PostState.DRAFT: PostState.CANCELLED,
        PostState.IN_REVIEW: PostState.CANCELLED,
        PostState.APPROVED: PostState.CANCELLED,
        PostState.SCHEDULED: PostState.CANCELLED,
        # Some of it may be out already: only the deliveries can tell, so the wish is noted and the state stays.
        PostState.DISPATCHED: PostState.DISPATCHED,
    },
    Action.DISPATCH: {PostState.SCHEDULED: PostState.DISPATCHED},
    Action.MISS: {PostState.SCHEDULED: PostState.MISSED},
    Action.EXPIRE: {PostState.IN_REVIEW: PostState.EXPIRED},
}

NOT_REACHED = frozenset({PostState.IN_REVIEW, PostState.APPROVED, PostState.EXPIRED})
"""States that no call leads to yet: a message does not name them as a way out."""

ROLLED_UP = frozenset(
    {
        PostState.PUBLISHED,
        PostState.PARTIALLY_PUBLISHED,
        PostState.FAILED,
        PostState.MISSED,
        PostState.CANCELLED,
    }
)
"""What `roll_up` can say once every delivery has ended."""

# Events come late, twice and out of order. A state is only ever replaced by one of a higher rank, so that their order
# does not matter; published tops the other ends because a failure can turn out to have been a success.
RANKS: Mapping[VariantState, int] = {
    VariantState.PLANNED: 0,
    VariantState.PENDING: 1,
    VariantState.PROCESSING: 2,
    VariantState.UNKNOWN: 3,
    VariantState.FAILED: 4,
    VariantState.MISSED: 4,
    VariantState.CANCELLED: 4,
    VariantState.PUBLISHED: 5,
}
ENDED_RANK = 4


def after(action: Action, state: PostState) -> PostState:
    """Returns the state after an action. Raises PostStateConflict."""
    following = TRANSITIONS[action].get(state)
    if following is None:
        fitting = " or ".join(one for one in TRANSITIONS[action] if one not in NOT_REACHED)
        hint = "" if action is Action.CANCEL else "; make a new post"
        raise PostStateConflict(f"the post is {state}, and {action} is for one that is {fitting}{hint}")
    return following


def supersedes(told: VariantState, known: VariantState) -> bool:
    """True when what is told now replaces what is known. Never leads back: published stays published."""
    return RANKS[told] > RANKS[known]


def has_ended(state: VariantState) -> bool:
    """True when nothing more is to be expected of a delivery, but for the late news that it went out after all."""
    return RANKS[state] >= ENDED_RANK


def roll_up(variants: Collection[VariantState], *, parts_out: bool = False) -> PostState:
    """Returns the state of a dispatched post from those of all its deliveries: dispatched until the last has ended.

    `parts_out` says that some delivery put a part of its thread out: the post is then never merely `failed`.
    """
    if not all(has_ended(state) for state in variants):
        return PostState.DISPATCHED
    kinds = set(variants)
    if kinds == {VariantState.PUBLISHED}:
        return PostState.PUBLISHED
    if VariantState.PUBLISHED in kinds or parts_out:
        return PostState.PARTIALLY_PUBLISHED
    if VariantState.FAILED in kinds:
        return PostState.FAILED
    return PostState.MISSED if VariantState.MISSED in kinds else PostState.CANCELLED


def segment_states(variant: VariantState, *, public: int, count: int) -> list[str]:
    """Returns where each part of a variant stands: parts go out in order, and none after one that did not.

    The part after the public ones has the variant's state; those behind it wait, or will not be sent.
    """
    if variant is VariantState.PLANNED:
        return [""] * count
    rest = count - public
    if rest <= 0:
        return ["published"] * count
    following = "not_sent" if variant is VariantState.PUBLISHED else str(variant)
    behind = "not_sent" if has_ended(variant) else "waiting"
    return [*["published"] * public, following, *[behind] * (rest - 1)]


def shown(variant: VariantState, post: PostState) -> VariantState:
    """Returns what a reader sees of a variant: the publisher's word, or what the post's state says until it comes."""
    if variant is not VariantState.PLANNED:
        return variant
    return _UNTOLD.get(post, VariantState.PLANNED)


_UNTOLD: Mapping[PostState, VariantState] = {
    PostState.DISPATCHED: VariantState.PENDING,
    PostState.MISSED: VariantState.MISSED,
    PostState.CANCELLED: VariantState.CANCELLED,
}
