"""How long does it take to show a post by the function compiled from its message and view, beside one written by hand?

Both run on the same messages in the same process, several rounds of each in turn; their results are compared first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.boundary.enums import names_of
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.mapping.values import time_value
from regie_gateway.resources.planning.post_views import OPEN_STATES, PostView
from results import result_line

TIME = Timestamp(seconds=1_772_442_000, nanos=123_456_000)
STATES = names_of(pb.PostState.DESCRIPTOR)
VARIANT_STATES = names_of(pb.VariantState.DESCRIPTOR)
SEGMENT_STATES = names_of(pb.SegmentState.DESCRIPTOR)


def main() -> None:
    """Runs both sides and prints their figures, the result last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    compiled = compile_view(pb.Post, PostView)
    for sample in (post(), post(attachments=1), pb.Post(state=pb.POST_STATE_DRAFT)):
        if compiled(sample) != by_hand(sample):
            raise SystemExit("the two do not show the same")
    posts = [post(attachments=number % 2) for number in range(options.posts)]
    rounds = [(measure(compiled, posts), measure(by_hand, posts)) for _ in range(options.rounds)]
    for ours, reference in rounds:
        print(f"compiled {ours:.2f} us a post, by hand {reference:.2f} us")
    ours, reference = (median(side) for side in zip(*rounds, strict=True))
    params = {"posts": options.posts, "rounds": options.rounds, "reference": "the same mapping written by hand"}
    print(result_line("mapping", ours=ours, reference=reference, unit="us", better="lower", params=params))


def measure(show: Callable[[pb.Post], dict[str, Any]], posts: list[pb.Post]) -> float:
    """Returns microseconds a post."""
    begin = time.perf_counter()
    for one in posts:
        show(one)
    return (time.perf_counter() - begin) / len(posts) * 1e6


def post(*, attachments: int = 0) -> pb.Post:
    """Returns a published post on one channel."""
    pictures = [
        pb.Attachment(media_id="media_01m8370pt6enx8agpg77kpjnft", alt_text="A door") for _ in range(attachments)
    ]
    variant = pb.Variant(
        channel_id="chan_01m8370pt6enx8agpg77kpjnft",
        segments=[
            pb.Segment(
                text="Doors open at eight.", attachments=pictures, state=pb.SEGMENT_STATE_PUBLISHED, remote_id="7"
            )
        ],
        state=pb.VARIANT_STATE_PUBLISHED,
        remote_url="https://network.example/7",
    )
    return pb.Post(
        post_id="post_01m8370pt6enx8agpg77kpjnft",
        title="Opening night",
        state=pb.POST_STATE_PUBLISHED,
        variants=[variant],
        publish_local_time="2026-03-02T10:00:00",
        time_zone="Europe/Paris",
        publish_time=TIME,
        revision=2,
        create_time=TIME,
        update_time=TIME,
    )


def by_hand(post: pb.Post) -> dict[str, Any]:
    """Returns a post as JSON: the reference."""
    publish_at = None
    if post.publish_local_time:
        publish_at = {
            "local_time": post.publish_local_time,
            "time_zone": post.time_zone,
            "occurrence": post.occurrence or "first",
            "time": time_value(post.publish_time),
        }
    return {
        "post_id": post.post_id,
        "title": post.title,
        "state": STATES[post.state],
        "variants": [_variant(variant) for variant in post.variants],
        "publish_at": publish_at,
        "cancellation": _cancellation(post),
        "revision": post.revision,
        "create_time": time_value(post.create_time),
        "update_time": time_value(post.update_time),
    }


def _cancellation(post: pb.Post) -> dict[str, Any] | None:
    if not post.HasField("cancel_time"):
        return None
    still_open = [variant.channel_id for variant in post.variants if variant.state in OPEN_STATES]
    return {"cancel_time": time_value(post.cancel_time), "open_channel_ids": still_open}


def _variant(variant: pb.Variant) -> dict[str, Any]:
    return {
        "channel_id": variant.channel_id,
        "segments": [_segment(segment) for segment in variant.segments],
        "visibility": variant.visibility or "public",
        "language": variant.language,
        "state": VARIANT_STATES[variant.state] or "planned",
        "remote_id": variant.remote_id,
        "remote_url": variant.remote_url,
        "failure": variant.failure,
        "remove_time": time_value(variant.remove_time),
    }


def _segment(segment: pb.Segment) -> dict[str, Any]:
    return {
        "text": segment.text,
        "attachments": [{"media_id": one.media_id, "alt_text": one.alt_text} for one in segment.attachments],
        "state": SEGMENT_STATES[segment.state] or "planned",
        "remote_id": segment.remote_id,
        "remote_url": segment.remote_url,
    }


if __name__ == "__main__":
    main()
