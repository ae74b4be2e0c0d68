"""The numbers under a post: made up, yet the same for everybody who asks at the same moment.

A pure function of id and age, never falling, with something to see within two seconds of publication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b

FAST_SHARE = 0.1
FAST_SECONDS = 1.0
SLOW_SECONDS = 3600.0

PEOPLE = (
    "ada.lindqvist", "amara.okafor", "bela.novak", "chiara.conti", "dario.silva", "elif.demir", "emre.kaya",
    "farah.haddad", "finn.olsen", "gita.rao", "hana.sato", "ines.moreau", "ivo.petrov", "jonas.weber",
    "kaia.nilsen", "lena.vogel", "leo.fontaine", "lucia.ortega", "mads.holm", "maya.cohen", "milan.horvat",
    "nadia.rahman", "noor.jansen", "omar.farouk", "petra.zeman", "quentin.roux", "rosa.marin", "sami.laine",
    "tariq.aziz", "uma.iyer", "vera.ivanova", "yuki.mori",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reaction:
    """A person who liked or replied."""

    actor_id: str
    actor_handle: str
    kind: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """Totals since publication."""

    likes: int
    replies: int
    reposts: int
    impressions: int
    engagements: tuple[Reaction, ...]


def numbers(post_id: str, age_seconds: float) -> Numbers:
    """Returns the totals of a post at an age.

    Each total is its final value times a share: a tenth arrives within seconds, so that a person who has just
    published sees movement, the rest over hours.
    """
    dice = blake2b(post_id.encode(), digest_size=16).digest()
    age = max(age_seconds, 0.0)
    share = FAST_SHARE * (1 - math.exp(-age / FAST_SECONDS)) + (1 - FAST_SHARE) * (1 - math.exp(-age / SLOW_SECONDS))
    most_likes = 25 + (dice[0] * 256 + dice[1]) % 476
    likes = int(most_likes * share)
    replies = int((13 + dice[2] % 40) * share)
    reposts = int((13 + dice[3] % 90) * share)
    impressions = int(most_likes * (12 + dice[4] % 40) * share)
    return Numbers(likes, replies, reposts, impressions, _reactions(dice, likes, replies))


def audience(account: str) -> tuple[int, int]:
    """Returns how many people follow an account, and how many it follows: always the same for its name."""
    dice = blake2b(account.encode(), digest_size=4).digest()
    return 100 + dice[0] * 256 + dice[1], 10 + dice[2]


def _reactions(dice: bytes, likes: int, replies: int) -> tuple[Reaction, ...]:
    """Names a few of the people who reacted; their order stays as the totals grow."""
    kinds = ["like"] * min(likes, 3) + ["reply"] * min(replies, 2)
    # Likers and repliers are counted from different dice, so that one person may do both.
    places = [dice[5] + 5 * n for n in range(min(likes, 3))] + [dice[6] + 7 * n for n in range(min(replies, 2))]
    people = [place % len(PEOPLE) for place in places]
    return tuple(
        Reaction(f"person-{person + 1}", PEOPLE[person], kind) for person, kind in zip(people, kinds, strict=True)
    )
