"""Publishing once: one mutation, the same bytes, and the truth about its outcome."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest

from regie_networks.absence import Repeat
from regie_networks.bounds import is_id
from regie_networks.conformance.answers import EMPTY_ANSWERS, LOST, NEVER_LEFT, ODD_BODIES, published
from regie_networks.conformance.harness import UNKNOWN, Harness
from regie_networks.conformance.transport import answering, raising
from regie_networks.errors import ConnectorError, FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.network import Once
from regie_networks.testing.fakes import MemoryHandles, alone

REPEATS = {
    Once.OWN_KEY: Repeat.AT_ONCE,
    Once.SERVER_KEY: Repeat.UNDER_KEY,
    Once.COMMIT_STATE: Repeat.AFTER_QUIET,
    Once.DUPLICATE_REFUSED: Repeat.AFTER_QUIET,
    Once.NONE: Repeat.AFTER_QUIET,
}


class Publishing:
    """Tests of `prepare`, `publish` and `find`."""

    async def test_a_published_post_is_what_people_see(self, harness: Harness) -> None:
        remote = await published(harness.connector(), harness.draft("Doors open."), 0)
        assert is_id(remote.id)
        assert remote.url.startswith(("https://", "http://"))
        assert await harness.texts() == ["Doors open."]

    async def test_every_attempt_sends_the_same_bytes_from_whatever_process(self, harness: Harness) -> None:
        draft = harness.draft(pictures=1)
        await harness.connector().prepare(draft, MemoryHandles())
        for _process in range(3):
            harness.server.spoil(harness.publish_call, raising(httpx2.ReadTimeout("slow")))
            with pytest.raises(OutcomeUnknown):
                await harness.connector().publish(draft, 0)
        attempts = harness.server.sent(harness.publish_call)
        assert len({(request.content, request.headers.get("idempotency-key")) for request in attempts}) == 1

    async def test_a_publish_is_one_mutation_whatever_is_answered(self, harness: Harness) -> None:
        connector = harness.connector()
        for respond in (
            *(answering(status, harness.error_body) for status in harness.failures),
            *map(raising, (*NEVER_LEFT, *LOST)),
            *(answering(200, body) for body in ODD_BODIES),
        ):
            before = len(harness.server.requests)
            harness.server.spoil(harness.publish_call, respond)
            with suppress(ConnectorError):
                await connector.publish(harness.draft(), 0)
            requests = harness.server.requests[before:]
            assert [request.method for request in requests if request.method != "GET"] == [harness.publish_call.method]

    async def test_a_thread_replies_part_to_part(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft("one", "two", "three")
        for index in range(3):
            draft.remotes.append(await published(connector, draft, index))
        assert await harness.texts() == ["one", "two", "three"]
        for index, remote in enumerate(draft.remotes):
            assert await connector.find(draft, index, alone()) == remote

    async def test_a_repeated_publish_is_what_the_once_class_says(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft("again")
        first = await published(connector, draft, 0)
        second = await published(connector, draft, 0)
        is_keyed = harness.network.once in (Once.OWN_KEY, Once.SERVER_KEY)
        assert await harness.texts() == ["again"] * (1 if is_keyed else 2)
        assert (first == second) == is_keyed
        absence = await connector.absence(draft.account)
        assert absence.repeat is REPEATS[harness.network.once]
        assert absence.quiet <= connector.quiet

    async def test_keys_are_never_the_same(self, harness: Harness) -> None:
        draft = harness.draft(*["x"] * 100)
        assert len({segment.key for segment in draft.segments}) == 100

    async def test_a_call_that_never_left_is_not_sent(self, harness: Harness) -> None:
        for error in NEVER_LEFT:
            harness.server.spoil(harness.publish_call, raising(error))
            with pytest.raises(NotSent):
                await harness.connector().publish(harness.draft(), 0)
        assert await harness.texts() == []

    @pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("after_effect", [False, True])
    async def test_a_lost_answer_is_unknown_and_find_tells_the_truth(
        self, harness: Harness, error: Exception, after_effect: bool
    ) -> None:
        connector, draft = harness.connector(), harness.draft("lost")
        harness.server.spoil(harness.publish_call, raising(error), after_effect=after_effect)
        with pytest.raises(OutcomeUnknown):
            await connector.publish(draft, 0)
        remote = await connector.find(draft, 0, alone())
        assert (remote is not None) == after_effect == bool(await harness.texts())
        if remote is not None and harness.network.once in (Once.OWN_KEY, Once.SERVER_KEY):
            assert await connector.publish(draft, 0) == remote

    async def test_each_status_is_the_failure_of_the_networks_table(self, harness: Harness) -> None:
        table: dict[int, FailureKind | None] = {}
        for status in harness.failures:
            harness.server.spoil(harness.publish_call, answering(status, harness.error_body))
            with pytest.raises((Refused, OutcomeUnknown)) as raised:
                await harness.connector().publish(harness.draft(), 0)
            refused = raised.value if isinstance(raised.value, Refused) else None
            table[status] = UNKNOWN if refused is None else refused.kind
            assert raised.value.args[0], status
            is_limit = refused is not None and refused.kind is FailureKind.RATE_LIMITED
            assert (refused is not None and refused.retry_after is not None) == is_limit
        assert table == dict(harness.failures)
        assert {status for status in table if status >= 500} <= {s for s, kind in table.items() if kind is UNKNOWN}
        assert await harness.texts() == []

    async def test_a_rate_limit_waits_as_long_as_it_says(self, harness: Harness) -> None:
        harness.server.spoil(harness.publish_call, answering(429, harness.error_body, Retry_After="90"))
        with pytest.raises(Refused) as refused:
            await harness.connector().publish(harness.draft(), 0)
        assert (refused.value.kind, refused.value.retry_after) == (FailureKind.RATE_LIMITED, timedelta(seconds=90))

    @pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
    async def test_a_success_that_cannot_be_read_is_unknown(self, harness: Harness, body: bytes) -> None:
        for status in (200, 201, 202, 204):
            harness.server.spoil(harness.publish_call, answering(status, body))
            with pytest.raises(OutcomeUnknown):
                await harness.connector().publish(harness.draft(), 0)

    async def test_a_post_that_was_never_sent_is_not_there(self, harness: Harness) -> None:
        assert await harness.connector().find(harness.draft("absent"), 0, alone()) is None

    async def test_find_never_calls_a_post_absent_where_it_was_not_told_so(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft("there")
        remote = await published(connector, draft, 0)
        for respond in (
            *(answering(status, harness.error_body) for status in harness.failures),
            *map(raising, (*NEVER_LEFT, *LOST)),
            *(answering(200, body) for body in ODD_BODIES if body not in EMPTY_ANSWERS),
        ):
            harness.server.spoil(harness.find_call, respond)
            with pytest.raises(ConnectorError):
                await connector.find(draft, 0, alone())
        assert await connector.find(draft, 0, alone()) == remote

    async def test_asking_about_a_post_that_is_not_being_processed_claims_nothing(self, harness: Harness) -> None:
        with pytest.raises(ConnectorError):
            await harness.connector().check(harness.draft(), 0, "none")

    async def test_preparation_uploads_each_picture_once_and_goes_on_where_it_was_broken_off(
        self, harness: Harness
    ) -> None:
        draft, saved = harness.draft(pictures=2), MemoryHandles()
        assert harness.connector().needs_preparation(draft)
        await harness.connector().prepare(draft, saved)
        assert saved.saved == draft.handles
        uploads = len([request for request in harness.server.requests if request.method == "POST"])
        assert uploads == 2
        resumed = replace(draft, handles=dict(list(saved.saved.items())[:-1]))
        await harness.connector().prepare(resumed, MemoryHandles())
        assert not harness.connector().needs_preparation(resumed)
        before = len(harness.server.requests)
        await harness.connector().prepare(resumed, MemoryHandles())
        assert len(harness.server.requests) == before
        await published(harness.connector(), resumed, 0)
