"""The limits of the descriptor are those that a connector enforces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from regie_networks.conformance.answers import published
from regie_networks.conformance.harness import FRAMES, Harness, picture, video
from regie_networks.content import MediaKind
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.review import check_segment
from regie_networks.testing.fakes import MemoryHandles, alone


class Content:
    """Tests of `review`, and of `prepare` where the limits are those of a server."""

    async def test_the_limits_of_the_descriptor_are_those_that_are_enforced(self, harness: Harness) -> None:
        rules = harness.network.rules
        for limit in rules.text:
            await self._check(harness, text_of(limit.unit, limit.maximum))
            await self._refuse(harness, FailureKind.CONTENT_REJECTED, text_of(limit.unit, limit.maximum + 1))
        count = rules.max_attachments
        await self._check(harness, "x", *(picture(f"media_{n}") for n in range(count)))
        too_many = (picture(f"media_{n}") for n in range(count + 1))
        await self._refuse(harness, FailureKind.MEDIA_REJECTED, "x", *too_many)
        await self._refuse(harness, FailureKind.CONTENT_REJECTED, " \n")
        if rules.alt_text is not None:
            maximum = rules.alt_text.maximum
            await self._check(harness, "x", picture(alt_text="x" * maximum))
            await self._refuse(harness, FailureKind.CONTENT_REJECTED, "x", picture(alt_text="x" * (maximum + 1)))
        for rule in rules.media:
            if rule.max_bytes is not None and rule.kind == "image":
                await self._check(harness, "x", picture(size=rule.max_bytes))
                larger = picture(size=rule.max_bytes + 1)
                if rule.is_fitted:
                    await self._check(harness, "x", larger)
                else:
                    await self._refuse(harness, FailureKind.MEDIA_REJECTED, "x", larger)

    async def test_a_video_is_taken_as_the_descriptor_says(self, harness: Harness) -> None:
        rule = harness.network.rules.media_rule(MediaKind.VIDEO)
        draft = harness.draft("x")
        draft.segments = [replace(draft.segments[0], video=video())]
        connector = harness.connector()
        if rule is None:
            with pytest.raises(Unacceptable) as refused:
                connector.review(draft)
            assert refused.value.kind in (FailureKind.MEDIA_REJECTED, FailureKind.UNSUPPORTED)
            return
        connector.review(draft)
        await connector.prepare(draft, MemoryHandles())
        (upload,) = [request for request in harness.server.requests if request.method == "POST"]
        assert FRAMES in upload.content
        assert int(upload.headers["content-length"]) == len(upload.content)
        assert not connector.needs_preparation(draft)
        remote = await published(connector, draft, 0)
        assert await connector.find(draft, 0, alone()) == remote
        draft.segments = [replace(draft.segments[0], pictures=(picture(),))]
        with pytest.raises(Unacceptable, match="stands alone"):
            check_segment(harness.network.rules, draft.segments[0])

    async def test_only_visibilities_of_the_descriptor_pass(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft()
        for visibility in ("", *harness.network.rules.visibilities):
            connector.review(replace(draft, visibility=visibility))
        for visibility in {"public", "unlisted", "private", "direct", "x"} - set(harness.network.rules.visibilities):
            with pytest.raises(Unacceptable) as refused:
                connector.review(replace(draft, visibility=visibility))
            assert refused.value.kind is FailureKind.UNSUPPORTED

    @staticmethod
    async def _check(harness: Harness, text: str, *pictures: Any) -> None:
        draft = harness.draft(text)
        draft.segments = [replace(draft.segments[0], pictures=pictures)]
        connector = harness.connector()
        connector.review(draft)
        if harness.network.rules.is_per_server:
            await connector.prepare(draft, MemoryHandles())

    async def _refuse(self, harness: Harness, kind: FailureKind, text: str, *pictures: Any) -> None:
        with pytest.raises(Unacceptable) as refused:
            await self._check(harness, text, *pictures)
        assert refused.value.kind is kind


def text_of(unit: str, length: int) -> str:
    """Returns a text of that length in the unit, and of no more of the others than it must have."""
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
    size = len(family.encode())
    return family * (length // size) + "x" * (length % size) if unit == "bytes" else "x" * length
