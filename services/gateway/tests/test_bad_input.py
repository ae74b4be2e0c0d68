"""Every bad input is answered with a problem document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from regie.ids.v1.prefixes import CHANNEL, POST
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.testing.harness import GatewayHarness

CHANNEL_ID = show_id(CHANNEL, new_id())
POST_ID = show_id(POST, new_id())
VARIANT = f'{{"channel_id": "{CHANNEL_ID}", "text": "x"}}'
JSON = {"Content-Type": "application/json"}


def post(title: str = '"t"', variants: str = f"[{VARIANT}]", more: str = "") -> bytes:
    return f'{{"title": {title}, "variants": {variants}{more}}}'.encode()


BODIES = {
    "nothing": (b"", 422, "INVALID_REQUEST"),
    "half an object": (b'{"title": ', 400, "MALFORMED_JSON"),
    "not UTF-8": (b'{"title": "\xff"}', 400, "MALFORMED_JSON"),
    "a number": (b"7", 422, "INVALID_REQUEST"),
    "null": (b"null", 422, "INVALID_REQUEST"),
    "a list": (b"[]", 422, "INVALID_REQUEST"),
    "an unknown field": (post(more=', "colour": 1'), 422, "INVALID_REQUEST"),
    "a wrong type": (post(title="7"), 422, "INVALID_REQUEST"),
    "a null title": (post(title="null"), 422, "INVALID_REQUEST"),
    "NaN": (post(title="NaN"), 400, "MALFORMED_JSON"),
    "Infinity": (post(title="-Infinity"), 400, "MALFORMED_JSON"),
    "a float out of range": (post(title="1e999"), 400, "MALFORMED_JSON"),
    "NUL": (post(title='"a\\u0000b"'), 400, "MALFORMED_JSON"),
    "a lone surrogate": (post(title='"\\ud800"'), 400, "MALFORMED_JSON"),
    "a lone surrogate as a name": (post(more=', "\\udfff": 1'), 400, "MALFORMED_JSON"),
    "a name twice": (post(more=', "title": "u"'), 400, "MALFORMED_JSON"),
    "ten thousand levels": (b"[" * 10_000 + b"]" * 10_000, 400, "MALFORMED_JSON"),
    "ten thousand levels inside": (post(variants="[" * 10_000 + "]" * 10_000), 400, "MALFORMED_JSON"),
    "a hundred levels": (b'{"a":' * 100 + b"1" + b"}" * 100, 400, "MALFORMED_JSON"),
    "65 levels": (post(more=f', "a": {"[" * 64 + "]" * 64}'), 400, "MALFORMED_JSON"),
    "64 levels": (post(more=f', "a": {"[" * 63 + "1" + "]" * 63}'), 422, "INVALID_REQUEST"),
    "a month of no calendar": (
        post(more=', "publish_at": {"local_time": "2030-37-01T09:30:00", "time_zone": "Europe/Paris"}'),
        422,
        "INVALID_REQUEST",
    ),
    "an hour of no clock": (
        post(more=', "publish_at": {"local_time": "2030-07-01T24:30:00", "time_zone": "Europe/Paris"}'),
        422,
        "INVALID_REQUEST",
    ),
    "a number beyond 64 bits": (post(title="9223372036854775808"), 400, "MALFORMED_JSON"),
    "a number of 10,000 digits": (post(title="9" * 10_000), 400, "MALFORMED_JSON"),
    "no variants": (post(variants="[]"), 422, "INVALID_REQUEST"),
    "51 variants": (post(variants=f"[{','.join([VARIANT] * 51)}]"), 422, "INVALID_REQUEST"),
    "neither text nor segments": (post(variants=f'[{{"channel_id": "{CHANNEL_ID}"}}]'), 422, "INVALID_REQUEST"),
    "an id of another kind": (post(variants=f'[{{"channel_id": "{POST_ID}", "text": "x"}}]'), 400, "INVALID_ID"),
    "an id that is a number": (post(variants='[{"channel_id": 7, "text": "x"}]'), 422, "INVALID_REQUEST"),
    "a time with an offset": (
        post(more=', "publish_at": {"local_time": "2030-06-01T09:30:00Z", "time_zone": "Europe/Paris"}'),
        422,
        "INVALID_REQUEST",
    ),
    "more than the limit": (post(title=f'"{"x" * 1_100_000}"'), 413, "REQUEST_TOO_LARGE"),
}


async def test_a_bad_body_is_refused_with_a_reason(world: GatewayHarness) -> None:
    async with world.client() as client:
        answers = {
            name: await client.post("/v1/posts", content=body, headers=JSON) for name, (body, *_) in BODIES.items()
        }
    assert {name: problem_summary(answer) for name, answer in answers.items()} == {
        name: (status, reason, "application/problem+json") for name, (_, status, reason) in BODIES.items()
    }
    assert world.backends.scheduler.memory.received == []


async def test_an_explicit_null_is_refused_where_it_says_nothing_and_is_named(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = f"/v1/posts/{POST_ID}"
        answers = [await client.patch(path, content=b'{"%s": null}' % name, headers=JSON) for name in NULLS]
    assert [problem_summary(answer)[:2] for answer in answers] == [(422, "INVALID_REQUEST")] * len(NULLS)
    assert [answer.json()["field"] for answer in answers] == [f"/{name.decode()}" for name in NULLS]


NULLS = [b"title", b"variants", b"publish_at"]


async def test_a_query_parameter_that_nothing_reads_is_named_as_it_came(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/posts?dry_run=1", content=post(), headers=JSON)
    assert problem_summary(answer) == (422, "INVALID_REQUEST", "application/problem+json")
    assert answer.json()["field"] == "dry_run"


def problem_summary(answer: httpx2.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["reason"], answer.headers["content-type"]


REQUESTS = [
    ("GET", "/v1/nothing", 404, "NOT_FOUND"),
    ("GET", "/v1/posts/", 404, "NOT_FOUND"),
    ("PUT", "/v1/posts", 405, "METHOD_NOT_ALLOWED"),
    ("GET", "/v1/posts/post_x", 400, "INVALID_ID"),
    ("GET", f"/v1/posts/{CHANNEL_ID}", 400, "INVALID_ID"),
    ("GET", "/v1/posts/%00", 400, "INVALID_ID"),
    ("GET", "/v1/posts/%ff%fe", 400, "INVALID_ID"),
    ("GET", "/v1/posts?page_size=0", 422, "INVALID_REQUEST"),
    ("GET", "/v1/posts?page_size=201", 422, "INVALID_REQUEST"),
    ("GET", "/v1/posts?page_size=x", 422, "INVALID_REQUEST"),
    ("GET", f"/v1/posts?page_size={'9' * 5000}", 422, "INVALID_REQUEST"),
    ("GET", "/v1/posts?colour=red", 422, "INVALID_REQUEST"),
    ("GET", "/v1/posts?state=gone", 422, "INVALID_REQUEST"),
    ("GET", "/v1/posts?page_token=%00", 422, "INVALID_REQUEST"),
    ("GET", "/v1/api-keys?page_token=%21", 400, "INVALID_PAGE_TOKEN"),
    ("GET", "/v1/api-keys?page_token=AAAA", 400, "INVALID_PAGE_TOKEN"),
    ("GET", f"/v1/posts/{POST_ID}/metrics/series?metric=joy", 422, "INVALID_REQUEST"),
    (
        "GET",
        f"/v1/posts/{POST_ID}/metrics/series?metric=likes&start=0001-01-01T00:00:00%2B14:00",
        422,
        "INVALID_REQUEST",
    ),
    ("GET", f"/v1/posts/{POST_ID}/metrics/series?metric=likes&start=2026-01-01T00:00:00", 422, "INVALID_REQUEST"),
    ("GET", "/v1/events?types=nothing", 400, "UNKNOWN_EVENT_TYPE"),
    ("GET", "/v1/events?last_event_id=nothing", 400, "INVALID_EVENT_ID"),
    ("GET", "/v1/events?last_event_id={0190a1b2-0000-7000-8000-000000000001}", 400, "INVALID_EVENT_ID"),
    ("GET", "/v1/events?last_event_id=0190a1b2000070008000000000000001", 400, "INVALID_EVENT_ID"),
    ("GET", f"/v1/events?last_event_id={new_id()}", 410, "EVENT_GONE"),
]


async def test_a_bad_request_is_refused_with_a_reason(world: GatewayHarness) -> None:
    async with world.client() as client:
        answers = [
            (method, path, *problem_summary(await client.request(method, path))) for method, path, *_ in REQUESTS
        ]
    assert answers == [(*expected, "application/problem+json") for expected in REQUESTS]


async def test_another_content_type_than_json_is_refused(world: GatewayHarness) -> None:
    async with world.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", ""):
            answer = await client.post("/v1/posts", content=post(), headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind


async def test_the_bytes_of_a_picture_say_its_type(world: GatewayHarness) -> None:
    async with world.client() as client:
        # Clients made from the document send JSON's type with everything unless told otherwise.
        kinds = ("application/octet-stream", "application/x-www-form-urlencoded", "image/heic", "text/plain")
        for kind in ("", *kinds, JSON["Content-Type"]):
            answer = await client.post("/v1/media", content=b"x", headers={"Content-Type": kind} if kind else {})
            assert (answer.status_code, answer.json()["frames"]) == (201, 1), kind


async def test_a_picture_is_no_form_and_fits_the_limit(world: GatewayHarness) -> None:
    async with world.client() as client:
        form = await client.post("/v1/media", files={"file": b"x"})
        assert (form.status_code, form.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        big = await client.post("/v1/media", content=bytes(10 * 1024 * 1024 + 1), headers={"Content-Type": "image/png"})
        chunked = await client.post("/v1/media", content=_chunks(), headers={"Content-Type": "image/png"})
    assert (big.status_code, chunked.status_code) == (413, 413)


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(11):
        yield bytes(1024 * 1024)


def nested(levels: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"attribute": "a", "operator": "present"}
    for _ in range(levels - 1):
        rule = {"not": rule}
    return rule


LEAF = {"attribute": "a", "operator": "eq", "value": 1}
RULES: list[tuple[object, int]] = [
    (nested(10), 200),
    (nested(11), 422),
    ({"all": [LEAF] * 50}, 200),
    ({"all": [LEAF] * 51}, 422),
    ({"any": [{"all": [LEAF] * 49}, {"all": [LEAF] * 48}]}, 200),
    ({"any": [{"all": [LEAF] * 49}, {"all": [LEAF] * 49}]}, 422),
    ({"all": []}, 422),
    ({"all": [LEAF], "any": [LEAF]}, 422),
    ({"not": None}, 422),
    ({"not": [LEAF]}, 422),
    ({"all": "everything"}, 422),
    ({}, 422),
    (None, 422),
    ([], 422),
    ({**LEAF, "operator": "like"}, 422),
    ({**LEAF, "value": {"deep": 1}}, 422),
    ({**LEAF, "value": 2**53 + 1}, 422),
]


async def test_a_rule_is_bounded_in_depth_and_size(world: GatewayHarness) -> None:
    async with world.client() as client:
        answers = [await client.post("/v1/segments/preview", json={"rule": rule}) for rule, _ in RULES]
    assert [answer.status_code for answer in answers] == [status for _, status in RULES]


async def test_a_number_that_would_lose_its_last_digit_is_refused(world: GatewayHarness) -> None:
    body = {"profiles": [{"external_id": "x", "attributes": {"number": 2**53 + 1}}]}
    async with world.client() as client:
        assert (await client.post("/v1/profiles", json=body)).status_code == 422


async def test_more_than_a_thousand_profiles_are_refused(world: GatewayHarness) -> None:
    profiles = [{"external_id": str(number)} for number in range(1001)]
    async with world.client() as client:
        assert (await client.post("/v1/profiles", json={"profiles": profiles})).status_code == 422
        assert (await client.post("/v1/profiles", json={"profiles": profiles[:1000]})).status_code == 200


async def test_nothing_of_the_credentials_comes_back_in_a_problem(world: GatewayHarness) -> None:
    body = {"network": "", "credentials": {"password": 12345678}, "hunter2": "swordfish"}
    async with world.client() as client:
        answer = await client.post("/v1/channels", json=body)
    assert answer.status_code == 422
    assert "12345678" not in answer.text
    assert "swordfish" not in answer.text
