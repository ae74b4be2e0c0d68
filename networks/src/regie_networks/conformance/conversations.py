"""Published posts: their numbers, the replies to them, their removal; and the numbers of their account."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest

from regie_networks.conformance.answers import LOST, published
from regie_networks.conformance.harness import Harness
from regie_networks.conformance.transport import ANY_CALL, answering, raising
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown, Refused
from regie_networks.observation import Observation
from regie_networks.replies import PAGE_SIZE
from regie_networks.testing.fakes import alone


class Conversations:
    """Tests of `observe`, `observe_account`, `replies` and `delete`."""

    async def test_numbers_are_those_of_the_descriptor_and_gone_posts_are_left_out(self, harness: Harness) -> None:
        connector, draft, other = harness.connector(), harness.draft("one"), harness.draft("two")
        remote, gone = await published(connector, draft, 0), await published(connector, other, 0)
        await connector.delete(draft.account, gone)
        (observation,) = await connector.observe(draft.account, [remote, gone])
        assert isinstance(observation, Observation)
        assert observation.remote_id == remote.id
        assert "likes" in observation.values
        assert set(observation.values) <= set(harness.network.metrics)
        before = len(harness.server.requests)
        assert list(await connector.observe(draft.account, [])) == []
        assert len(harness.server.requests) == before

    async def test_the_numbers_of_the_account_are_those_of_the_descriptor(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft()
        before = await connector.observe_account(draft.account)
        await published(connector, draft, 0)
        after = await connector.observe_account(draft.account)
        assert set(after.values) == set(harness.network.account_metrics)
        assert after.values["posts"] == before.values["posts"] + 1

    async def test_a_removed_post_is_gone_however_often_it_is_removed(self, harness: Harness) -> None:
        connector, draft, kept = harness.connector(), harness.draft("gone"), harness.draft("kept")
        remote, _ = await published(connector, draft, 0), await published(connector, kept, 0)
        for _time in range(2):
            await connector.delete(draft.account, remote)
            assert await harness.texts() == ["kept"]
        assert await connector.find(draft, 0, alone()) is None

    @pytest.mark.parametrize("after_effect", [False, True])
    async def test_a_removal_whose_answer_was_lost_is_repeated(self, harness: Harness, after_effect: bool) -> None:
        connector, draft = harness.connector(), harness.draft()
        remote = await published(connector, draft, 0)
        for error in LOST:
            harness.server.spoil(ANY_CALL, raising(error), after_effect=after_effect)
            with pytest.raises(OutcomeUnknown):
                await connector.delete(draft.account, remote)
        await connector.delete(draft.account, remote)
        assert await harness.texts() == []

    async def test_only_the_network_says_that_a_post_is_removed(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft()
        remote = await published(connector, draft, 0)
        for status in (302, 404, 410, 500):
            harness.server.spoil(ANY_CALL, answering(status, b"<html><h1>Not Found</h1></html>"))
            with pytest.raises((Refused, OutcomeUnknown)):
                await connector.delete(draft.account, remote)
        assert len(await harness.texts()) == 1

    async def test_replies_name_their_post_their_author_and_their_time(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft("question", "answer")
        for index in range(2):
            draft.remotes.append(await published(connector, draft, index))
        page = await connector.replies(draft.account, draft.remotes[0])
        (reply,) = page.replies
        assert (reply.remote_id, reply.parent_remote_id) == (draft.remotes[1].id, draft.remotes[0].id)
        assert (reply.text, reply.url) == ("answer", draft.remotes[1].url)
        assert reply.author_handle
        assert reply.create_time is not None
        assert reply.create_time.utcoffset() == timedelta(0)
        assert (page.next_page_token, page.left_out) == ("", 0)
        assert (await connector.replies(draft.account, draft.remotes[1])).replies == ()

    async def test_many_replies_come_in_pages_each_once(self, harness: Harness) -> None:
        connector, question = harness.connector(), harness.draft("question")
        question.remotes.append(await published(connector, question, 0))
        count = PAGE_SIZE + 3
        for number in range(count):
            answer = harness.draft("question", f"answer {number}")
            await published(connector, replace(answer, remotes=list(question.remotes)), 1)
        first = await connector.replies(question.account, question.remotes[0])
        second = await connector.replies(question.account, question.remotes[0], page_token=first.next_page_token)
        assert (len(first.replies), second.next_page_token) == (PAGE_SIZE, "")
        texts = {reply.text for page in (first, second) for reply in page.replies}
        assert texts == {f"answer {number}" for number in range(count)}

    async def test_replies_to_a_post_that_is_gone_are_refused(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft()
        remote = await published(connector, draft, 0)
        await connector.delete(draft.account, remote)
        with pytest.raises(Refused) as refused:
            await connector.replies(draft.account, remote)
        assert refused.value.kind is FailureKind.CONTENT_REJECTED

    async def test_an_id_from_elsewhere_stays_within_its_place_of_the_address(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft()
        remote = Remote("1/../../../admin?x=1#y", "https://network.example/1")
        for verb in (connector.delete(draft.account, remote), connector.replies(draft.account, remote)):
            with suppress(ConnectorError):
                await verb
        assert harness.server.requests
        paths = [httpx2.URL(str(request.url)).raw_path for request in harness.server.requests]
        assert not [path for path in paths if b"/admin" in path.partition(b"?")[0]]
