"""The whole life of a post as a table, and its state as the sum of its deliveries.

Pure: `planning`, `due` and `delivery_reports` ask it before they write.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from regie_chassis.boundary.errors import Conflict


class PostState(StrEnum):
    """State of a post."""

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
    """State of the delivery to one channel, as the publisher reported it last."""

    PLANNED = "planned"
    PENDING = "pending"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"


class SegmentState(StrEnum):
    """State of one segment of a variant."""

    PLANNED = "planned"
    WAITING = "waiting"
    PENDING = "pending"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"
    NOT_SENT = "not_sent"


class ChangeCause(StrEnum):
    """Cause of a change of a post."""

    API = "api"
    DUE = "due"
    PUBLISHER = "publisher"


class Action(StrEnum):
    """Actions on a post. A report of the publisher is no action: see `roll_up`."""

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
"""An approved post that is edited is reviewed again."""

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

FINAL_STATES = frozenset(
    {
        PostState.PUBLISHED,
        PostState.PARTIALLY_PUBLISHED,
        PostState.FAILED,
        PostState.MISSED,
        PostState.CANCELLED,
    }
)
"""Results of `roll_up` once every delivery has ended."""

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
        fitting = " or ".join(before for before in TRANSITIONS[action] if before not in NOT_REACHED)
        hint = "" if action is Action.CANCEL else "; make a new post"
        raise PostStateConflict(f"the post is {state}, and {action} is for one that is {fitting}{hint}")
    return following


def supersedes(reported: VariantState, current: VariantState) -> bool:
    """True when a reported state replaces the current one. Never leads back: published stays published."""
    return RANKS[reported] > RANKS[current]


def has_ended(state: VariantState) -> bool:
    """True when a delivery has ended; only a late report that it was published can follow."""
    return RANKS[state] >= ENDED_RANK


def roll_up(variants: Collection[VariantState], *, parts_out: bool = False) -> PostState:
    """Returns the state of a dispatched post from those of all its deliveries: dispatched until the last has ended.

    With `parts_out`, a part of some thread is public: the post is then never merely `failed`.
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


def segment_states(variant: VariantState, *, public: int, count: int) -> list[SegmentState]:
    """Returns the state of each segment: segments are published in order, and none after one that was not.

    The segment after the public ones has the variant's state; those behind it wait, or will not be sent.
    """
    if variant is VariantState.PLANNED:
        return [SegmentState.PLANNED] * count
    rest = count - public
    if rest <= 0:
        return [SegmentState.PUBLISHED] * count
    following = SegmentState.NOT_SENT if variant is VariantState.PUBLISHED else SegmentState(variant)
    behind = SegmentState.NOT_SENT if has_ended(variant) else SegmentState.WAITING
    return [*[SegmentState.PUBLISHED] * public, following, *[behind] * (rest - 1)]


def state_for_readers(variant: VariantState, post: PostState) -> VariantState:
    """Returns the reported state of a variant, or the one that follows from the post's state until a report comes."""
    if variant is not VariantState.PLANNED:
        return variant
    return _BEFORE_REPORTS.get(post, VariantState.PLANNED)


_BEFORE_REPORTS: Mapping[PostState, VariantState] = {
    PostState.DISPATCHED: VariantState.PENDING,
    PostState.MISSED: VariantState.MISSED,
    PostState.CANCELLED: VariantState.CANCELLED,
}
