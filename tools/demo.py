"""Takes one post from the REST call to its numbers, and shows its path.

Uses the installation that `make run` has started in this folder, otherwise starts one and stops it in the end. Exits
with 0 only when every step was observed.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx2
from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import Addresses, AlreadyRunning, DataDirectory, folder_from_environment
from regie_local.environment import Ports
from regie_local.local_cluster import LocalCluster
from regie_local.processes import ProcessFailed
from regie_local.trace_tree import tree
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

ZONE = "Europe/Paris"
AHEAD = timedelta(seconds=2)
ACCOUNT = "sandbox-demo"
LOOK_EVERY = 0.1  # seconds
PATIENCE = 60.0  # seconds for a step
QUIET = 1.2  # seconds without a new span; services send theirs twice a second
STEPS = 7
Found = TypeVar("Found")
Json = dict[str, Any]


class NotSeen(Exception):
    """A step did not happen within its time, or happened otherwise than promised."""


@dataclass(slots=True)
class Demo:
    """The shared state of the steps."""

    api: httpx2.Client
    at: Addresses
    console: Console
    progress: Progress
    trace_id: str

    def step(self, title: str) -> None:
        """Moves the bar and shows the current step."""
        self.progress.update(self.progress.task_ids[0], advance=1, description=title)

    def print(self, line: str) -> None:
        """Writes a line above the bar, as it is."""
        self.console.print(Text(line), soft_wrap=True)

    def get(self, path: str) -> Json:
        """Returns the answer of a GET. Raises NotSeen with the problem's own words."""
        return _answer(self.api.get(path))

    def post(self, path: str, body: Json, **headers: str) -> Json:
        """Returns the answer of a POST. Raises NotSeen with the problem's own words."""
        return _answer(self.api.post(path, json=body, headers={"Idempotency-Key": secrets.token_hex(16), **headers}))


def main() -> int:
    """Returns the process's exit status."""
    console = Console()
    try:
        with _installation(console) as (at, key), _client(at, key) as api, _progress(console) as progress:
            _play(Demo(api, at, console, progress, trace_id=secrets.token_hex(16)))
    except WrongSetting as error:
        print(f"setting {error}", file=sys.stderr)
        return 2
    except (NotSeen, ProcessFailed, AlreadyRunning, httpx2.HTTPError) as problem:
        Console(stderr=True).print(Text(f"The demo failed: {problem}", style="bold red"), soft_wrap=True)
        return 1
    console.print("All of it happened.", style="bold green")
    return 0


@contextmanager
def _installation(console: Console) -> Iterator[tuple[Addresses, str]]:
    ports, folder = Ports.from_environment(), folder_from_environment()
    place = DataDirectory(folder)
    place.check()
    running = place.read_addresses()
    if running:
        console.print(f"Using what runs already as process {running.pid}")
        yield running, place.read_api_key()
        return
    with console.status("Starting Régie"):
        cluster = LocalCluster(folder, ports=ports)
        began = time.monotonic()
        cluster.start()
    console.print(f"Started Régie in {time.monotonic() - began:.1f} s")
    try:
        yield cluster.addresses, cluster.api_key
    finally:
        cluster.stop()


def _client(at: Addresses, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=at.gateway, headers={"Authorization": f"Bearer {key}"}, timeout=15)


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("", total=STEPS)
    return progress


def _play(demo: Demo) -> None:
    channel = _connect(demo)
    post = _schedule(demo, channel)
    variant = _follow(demo, post)
    _look(demo, post, variant)
    _count(demo, post)
    _meet(demo)
    _trace(demo)


def _connect(demo: Demo) -> Json:
    demo.step("Connecting a channel")
    credentials = {"access_token": ACCOUNT}
    asked = {"network": "sandbox", "server_url": demo.at.sandbox, "credentials": credentials}
    channel = demo.post("/v1/channels", asked)
    if channel["state"] != "active":
        raise NotSeen(f"the channel is {channel['state']}: {channel['attention']}")
    demo.print(f"1  channel {channel['channel_id']}: @{channel['handle']} on the sandbox")
    return channel


def _schedule(demo: Demo, channel: Json) -> Json:
    demo.step("Scheduling a post")
    local = (datetime.now(ZoneInfo(ZONE)) + AHEAD).replace(tzinfo=None)
    variant = {"channel_id": channel["channel_id"], "text": f"Curtain up at {local:%H:%M:%S} in Paris."}
    publish_at = {"local_time": local.isoformat(), "time_zone": ZONE}
    asked = {"title": "Opening night", "variants": [variant], "publish_at": publish_at}
    # The caller's own trace goes on in Régie, so that its id is known here.
    post = demo.post("/v1/posts", asked, traceparent=f"00-{demo.trace_id}-{secrets.token_hex(8)}-01")
    if post["state"] != "scheduled":
        raise NotSeen(f"the post is {post['state']} instead of scheduled")
    demo.print(f"2  post {post['post_id']} leaves at {publish_at['local_time']} {ZONE}")
    return post


def _follow(demo: Demo, post: Json) -> Json:
    """Shows the timeline as it grows and returns the published variant."""
    demo.step("Waiting for the due time, then for the network")
    printed: set[tuple[Any, ...]] = set()

    def published() -> Json | None:
        for entry in demo.get(f"/v1/posts/{post['post_id']}/timeline")["entries"]:
            key = (entry["time"], entry["subject"], entry["state"])
            if key not in printed:
                printed.add(key)
                words = entry["network_message"] or entry["detail"]
                demo.print(
                    f"     {entry['time'][11:23]}  {entry['subject']:8} {entry['state']:11} {entry['cause']}  {words}"
                )
        now = demo.get(f"/v1/posts/{post['post_id']}")
        if now["state"] in {"failed", "missed", "cancelled", "partially_published"}:
            raise NotSeen(f"the post is {now['state']}: {now['variants'][0]['failure']}")
        return now if now["state"] == "published" and ("post", "published") in {key[1:] for key in printed} else None

    demo.print("3  timeline")
    return dict(_until(published, "the post to be published")["variants"][0])


def _look(demo: Demo, post: Json, variant: Json) -> None:
    demo.step("Looking at the network")
    text = post["variants"][0]["segments"][0]["text"]
    answer = httpx2.get(variant["remote_url"], timeout=5)
    feed = httpx2.get(f"{demo.at.sandbox}/admin/posts", timeout=5)
    if answer.status_code != 200 or feed.text.count(text) != 1:
        raise NotSeen(f"{variant['remote_url']} does not show the post exactly once")
    demo.print(f"4  see it at {variant['remote_url']}, in the feed at {demo.at.sandbox}")


def _count(demo: Demo, post: Json) -> None:
    demo.step("Waiting for the first numbers")

    def counted() -> Json | None:
        totals: Json = demo.get(f"/v1/posts/{post['post_id']}/metrics")["totals"]
        return totals if any(total > 0 for total in totals.values()) else None

    totals = _until(counted, "numbers above zero")
    demo.print("5  numbers  " + ", ".join(f"{name} {total}" for name, total in sorted(totals.items())))


def _meet(demo: Demo) -> None:
    demo.step("Waiting for the people who engaged")

    def engaged() -> list[Json] | None:
        profiles: list[Json] = demo.get("/v1/profiles")["profiles"]
        return [profile for profile in profiles if profile["external_id"].startswith("sandbox:")] or None

    people = _until(engaged, "a profile of somebody who engaged")
    demo.print(f"6  people   {', '.join(profile['external_id'] for profile in people[:5])} …")


def _trace(demo: Demo) -> None:
    demo.step("Collecting the trace")
    with httpx2.Client(base_url=demo.at.traces, timeout=5) as store:
        traces = _collect(store, demo.trace_id)
    demo.print(f"7  trace {demo.trace_id}: the request")
    for number, spans in enumerate(traces):
        if number:
            demo.print(f"   trace {spans[0]['trace_id']}: linked across the wait for the due time")
        for line in tree(spans):
            demo.print(f"     {line}")


def _collect(store: httpx2.Client, trace_id: str) -> list[list[Json]]:
    """Returns the request's trace and the traces linked to it, once they are whole and no more spans arrive."""
    newest: tuple[int, float] = (0, 0.0)
    missing: list[str] = []

    def whole() -> list[list[Json]] | None:
        nonlocal newest
        ids = [trace_id, *store.get("/traces", params={"link": trace_id}).json()["traces"]]
        traces = [store.get(f"/traces/{one}").json()["spans"] for one in ids]
        missing[:] = _missing(traces)
        count = sum(map(len, traces))
        if count != newest[0]:
            newest = (count, time.monotonic())
        quiet = time.monotonic() - newest[1] > QUIET
        return traces if quiet and not missing else None

    try:
        return _until(whole, "the whole trace")
    except NotSeen as error:
        raise NotSeen(f"{error}; it does not show {', '.join(missing) or 'an end'}") from error


def _missing(traces: list[list[Json]]) -> list[str]:
    """Returns the spans that are still missing in the request's trace and the linked ones."""
    asked, linked = traces[0], [span for spans in traces[1:] for span in spans]
    seen = {(span["service"], span["kind"], span["name"]) for span in linked}
    steps = {
        "the REST call": any(span["service"] == "gateway" and span["kind"] == "server" for span in asked),
        "the call to the scheduler": any(span["service"] == "scheduler" and span["kind"] == "server" for span in asked),
        "the due post": any(span["service"] == "scheduler" and span["links"] for span in linked),
        "the network's part": ("publisher", "client", "publish") in seen and ("publisher", "client", "POST") in seen,
    }
    taken = {"publisher": "PostDue", "scheduler": "PostPublished", "metrics": "PostMetricsObserved"}
    taken["audience"] = "EngagementObserved"
    for service, event in taken.items():
        steps[f"{event} in {service}"] = (service, "consumer", f"process {event}") in seen
    return [what for what, shown in steps.items() if not shown]


def _until(look: Callable[[], Found | None], what: str) -> Found:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise NotSeen(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(LOOK_EVERY)


def _answer(response: httpx2.Response) -> Json:
    if response.is_success:
        return dict(response.json())
    raise NotSeen(
        f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:500]}"
    )


if __name__ == "__main__":
    sys.exit(main())
