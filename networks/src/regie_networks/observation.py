"""The numbers of published posts and of accounts, and the people who reacted, as networks report them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from regie_networks import bounds
from regie_networks.errors import ConnectorError

ACCOUNT_METRICS = ("followers", "following", "posts")
ENGAGEMENT_KINDS = ("like", "reply", "repost", "quote")


@dataclass(frozen=True, slots=True)
class Engagement:
    """A person seen to react; `kind` is one of ENGAGEMENT_KINDS."""

    actor_id: str
    actor_handle: str
    kind: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Totals since publication, by the field's names (likes, replies, reposts, quotes, impressions).

    Values that can be no total and people that can be no profile are left out, and counted in `left_out`; of the
    people, as many as a first page has are kept.
    """

    remote_id: str
    values: Mapping[str, int]
    engagements: tuple[Engagement, ...] = ()
    left_out: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        values = {name: value for name, value in self.values.items() if bounds.is_total(value)}
        page = self.engagements[: bounds.MAX_PEOPLE]
        people = tuple(
            Engagement(one.actor_id, bounds.visible(one.actor_handle)[: bounds.MAX_NAME], one.kind)
            for one in page
            if bounds.is_actor_id(one.actor_id) and one.kind in ENGAGEMENT_KINDS
        )
        left_out = len(self.values) - len(values) + len(self.engagements) - len(people)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "engagements", people)
        object.__setattr__(self, "left_out", left_out)


@dataclass(frozen=True, slots=True)
class Unread:
    """A post with unreadable numbers, while the other posts of the same call could be read."""

    remote_id: str
    error: ConnectorError


@dataclass(frozen=True, slots=True)
class AccountObservation:
    """The present numbers of an account, by the names of ACCOUNT_METRICS; values that can be no total are left out."""

    values: Mapping[str, int]

    def __post_init__(self) -> None:
        values = {
            name: value for name, value in self.values.items() if name in ACCOUNT_METRICS and bounds.is_total(value)
        }
        object.__setattr__(self, "values", values)
