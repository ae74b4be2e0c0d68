"""One trace from the REST call to the network's answer, collected through a real OTLP endpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
from regie_local.local_cluster import LocalCluster
from regie_local.testing.user import Json, User, path_to
from regie_local.testing.waiting import until

pytestmark = pytest.mark.processes


async def test_the_trace_leads_from_the_rest_call_to_the_network_and_the_numbers(user: User) -> None:
    channel = await user.connect("traced")
    answer = await user.http.post(
        "/v1/posts",
        json={"title": "traced", "variants": [{"channel_id": channel, "segments": [{"text": "traced post"}]}]},
    )
    post_id = answer.json()["post_id"]
    answer = await user.http.post(
        f"/v1/posts/{post_id}/schedule",
        json={"publish_at": {"local_time": _in_a_second(), "time_zone": "UTC"}},
    )
    assert answer.status_code == 200, answer.text
    scheduling = answer.headers["trace-id"]
    assert await user.ended(post_id) == "published"

    async def scheduled() -> list[Json]:
        spans = (await user.traces.get(f"/traces/{scheduling}")).json()["spans"]
        return spans if any(span["name"] == "transaction" for span in spans) else []

    spans = await until(scheduled, what="the trace of the REST call")
    path = path_to(spans, "transaction")
    assert [service for service, _ in groupby(path, key=itemgetter(0))] == ["gateway", "scheduler"]
    assert path[0] == ("gateway", "POST /v1/posts/{post_id}/schedule")
    assert [service for service, name in path if "SchedulePost" in name] == ["gateway", "scheduler"]
    assert ("scheduler", "publish PostScheduled") in path_to(spans, "publish PostScheduled")

    async def linked() -> list[Json]:
        found = (await user.traces.get("/traces", params={"link": scheduling})).json()["traces"]
        for trace in found:
            trace_id = trace if isinstance(trace, str) else trace["trace_id"]
            spans = (await user.traces.get(f"/traces/{trace_id}")).json()["spans"]
            names = {span["name"] for span in spans}
            if {"due PostDue", "deliver sandbox", "publish", "POST", "process PostPublished"} <= names:
                return list(spans)
        return []

    spans = await until(linked, what="the trace of the due post, linked to the REST call")
    due = next(span for span in spans if span["name"] == "due PostDue")
    assert due["parent_id"] == ""
    assert [link["trace_id"] for link in due["links"]] == [scheduling]

    call = path_to(spans, "POST")
    assert [name for _, name in call][:4] == ["due PostDue", "publish PostDue", "process PostDue", "deliver sandbox"]
    assert [service for service, _ in call][:4] == ["scheduler", "scheduler", "publisher", "publisher"]
    assert "publish" in [name for _, name in call][4:]

    (logged,) = [one for one in await user.calls() if one["text"] == "traced post"]
    assert logged["traceparent"].split("-")[1] == due["trace_id"]

    published = path_to(spans, "process PostPublished")
    assert published[-2] == ("publisher", "publish PostPublished")
    timeline = await user.timeline(post_id)
    assert {entry["trace_id"] for entry in timeline if entry["state"] in {"publishing", "published"}} == {
        due["trace_id"]
    }


def _in_a_second() -> str:
    return (datetime.now(UTC) + timedelta(seconds=1)).replace(tzinfo=None).isoformat()


async def test_log_records_carry_the_trace_and_no_secret(user: User, installation: LocalCluster) -> None:
    channel = await user.connect("logged")
    await user.faults({"operation": "create_post", "times": 1, "reject": "not this"})
    post_id = await user.schedule(channel, "a text that no log may hold", after=0.5)
    assert await user.ended(post_id) == "failed"
    (entry,) = [
        entry for entry in await user.timeline(post_id) if entry["state"] == "failed" and entry["subject"] != "post"
    ]

    async def written() -> list[Json]:
        return [record for record in _records(installation.folder.logs) if record.get("trace_id") == entry["trace_id"]]

    records = await until(written, what="a log record of the failed delivery")
    assert records
    everything = "".join(path.read_text(errors="replace") for path in installation.folder.logs.iterdir())
    assert "sandbox-logged" not in everything
    assert "a text that no log may hold" not in everything
    assert installation.api_key not in everything


def _records(folder: Path) -> list[Json]:
    lines = [line for path in sorted(folder.glob("*.log")) for line in path.read_text(errors="replace").splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]
