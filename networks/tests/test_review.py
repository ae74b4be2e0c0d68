"""The check of drafts against the rules of every network, and of credentials against its fields."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from regie_networks.credentials import check_credentials
from regie_networks.draft import Account, Draft, Format, Picture, Segment, format_of
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.network import Network
from regie_networks.registry import NETWORKS, offered_networks
from regie_networks.review import review_draft
from regie_networks.testing.fakes import FakeCredentials

ALL = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def draft(*segments: Segment) -> Draft:
    account = Account("https://network.test", "1", "ada", FakeCredentials({}))
    composed = datetime(2026, 3, 1, tzinfo=UTC)
    return Draft(account, segments or [Segment("a", "text")], visibility="", language="", compose_time=composed)


def picture(media_id: str = "media_1") -> Picture:
    async def read() -> bytes:
        return b"pixels"

    return Picture(media_id, "", "image/png", 6, 4, 3, read)


@ALL
def test_a_format_that_the_network_lacks_is_refused(network: Network) -> None:
    for form in Format:
        post = replace(draft(), format=form)
        if form in network.rules.formats:
            review_draft(network.rules, post)
            continue
        with pytest.raises(Unacceptable, match=f"no format {form}; choose one of text") as refused:
            review_draft(network.rules, post)
        assert refused.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("segments", "form"),
    [
        ([Segment("a", "x")], Format.TEXT),
        ([Segment("a", "x", (picture(),))], Format.IMAGE),
        ([Segment("a", "x", (picture("1"), picture("2")))], Format.CAROUSEL),
        ([Segment("a", "x"), Segment("b", "y")], Format.THREAD),
    ],
)
def test_a_draft_without_a_format_has_that_of_its_content(segments: list[Segment], form: Format) -> None:
    assert format_of(draft(*segments)) is form


@ALL
def test_a_draft_without_parts_is_refused(network: Network) -> None:
    with pytest.raises(Unacceptable, match="at least one part"):
        review_draft(network.rules, replace(draft(), segments=[]))


@ALL
def test_credentials_are_those_of_the_descriptor(network: Network) -> None:
    given = {field.name: "x" for field in network.credentials}
    check_credentials(network.credentials, given)
    with pytest.raises(Unacceptable, match="`token` is no credential here; give `") as unknown:
        check_credentials(network.credentials, {**given, "token": "x"})
    with pytest.raises(Unacceptable, match=r"^Give `") as missing:
        check_credentials(network.credentials, {})
    assert {unknown.value.kind, missing.value.kind} == {FailureKind.AUTH_EXPIRED}


def test_a_stand_in_is_offered_only_where_it_is_configured() -> None:
    assert set(NETWORKS) - set(offered_networks(stand_ins=False)) == {"sandbox"}
    assert offered_networks(stand_ins=True) == NETWORKS
