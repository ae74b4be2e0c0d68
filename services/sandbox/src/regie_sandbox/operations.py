"""The operations of the network: each function reads the network and returns a reply with its change."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from regie_sandbox.calls import Call, Reply, refusal
from regie_sandbox.network import Attachment, Network, Post, time_text
from regie_sandbox.numbers import audience, numbers
from regie_sandbox.tokens import account_to_renew, refresh_token_of, renewed_token

TEXT_LIMIT = 500
ALT_LIMIT = 1500
MEDIA_LIMIT = 4
KEY_LIMIT = 200
PAGE_LIMIT = 100
VISIBILITIES = ("public", "unlisted", "private", "direct")
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class _Unusable(Exception):
    """The body of a post breaks a rule; carries the refusal."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.reply = refusal(422, error, message)


def create_post(network: Network, call: Call) -> Reply:
    """Makes a post visible. Deliberately not idempotent: the same key twice is two posts, for everybody to see."""
    try:
        post = _read_post(network, call)
    except _Unusable as error:
        return error.reply
    if call.processing_polls:
        handle = f"work-{post.id}"
        accepted = {"accepted": post, "handle": handle, "polls": call.processing_polls}
        return Reply(202, {"status": "processing", "handle": handle}, change=accepted)
    return Reply(201, shown(post, call), change={"published": post}, effect=post.id)


def poll_processing(network: Network, call: Call) -> Reply:
    """Counts a poll; the last one makes the post visible. Afterwards it goes on answering that post."""
    pending = network.pending(call.path["handle"])
    if pending is None or pending.post.account != call.account:
        return refusal(404, "not_found", "Nothing is being processed under that handle.")
    if pending.post_id is not None:
        post = network.post(pending.post_id)
        if post is None:
            return refusal(404, "not_found", "The post was deleted.")
        return Reply(200, {"status": "done", "post": shown(post, call)}, about=post)
    if pending.polls_left > 1:
        document = {"status": "processing", "handle": pending.handle, "check_after": 1}
        return Reply(200, document, change={"polled": pending.handle}, about=pending.post)
    post = replace(pending.post, id=network.next_id, published=call.arrived)
    change = {"published": post, "finished": pending.handle}
    return Reply(200, {"status": "done", "post": shown(post, call)}, change=change, effect=post.id, about=post)


def find_posts(network: Network, call: Call) -> Reply:
    """Lists an account's posts, newest first, with the post that is still processed under the requested key."""
    account, key = call.query.get("account") or call.account, call.query.get("key")
    limit = call.query.get("limit", "20")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= PAGE_LIMIT:
        return refusal(422, "limit_invalid", f"limit goes from 1 to {PAGE_LIMIT}.")
    found = [shown(post, call) for post, _ in zip(network.posts_of(account, key), range(int(limit)), strict=False)]
    pending = network.pending_of(account, key) if key is not None else []
    return Reply(200, {"posts": found, "processing": [{"handle": one.handle} for one in pending]})


def get_post(network: Network, call: Call) -> Reply:
    post = network.post(call.path["id"])
    return Reply(200, shown(post, call), about=post) if post else _no_post()


def delete_post(network: Network, call: Call) -> Reply:
    """Takes one's own post down."""
    post = network.post(call.path["id"])
    if post is None:
        return _no_post()
    if post.account != call.account:
        return refusal(403, "forbidden", "That is somebody else's post.")
    return Reply(204, None, change={"deleted": post.id}, effect=post.id, about=post)


def get_metrics(network: Network, call: Call) -> Reply:
    """Returns the totals of the requested posts, without posts that do not exist."""
    ids = [one for one in call.query.get("ids", "").split(",") if one]
    if not 1 <= len(ids) <= PAGE_LIMIT:
        return refusal(422, "ids_invalid", f"Send 1 to {PAGE_LIMIT} ids, separated by commas.")
    posts = [post for one in ids if (post := network.post(one)) is not None]
    rows = [{"id": post.id, **asdict(numbers(post.id, call.arrived - post.published))} for post in posts]
    return Reply(200, {"metrics": rows})


def get_replies(network: Network, call: Call) -> Reply:
    """Lists the direct replies to a post, the oldest first, after the reply `after`."""
    post = network.post(call.path["id"])
    if post is None:
        return _no_post()
    limit, after = call.query.get("limit", "20"), call.query.get("after", "")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= PAGE_LIMIT:
        return refusal(422, "limit_invalid", f"limit goes from 1 to {PAGE_LIMIT}.")
    # Ids are numbers that rise, so that a reply that is gone still names its place.
    rest = [reply for reply in network.replies(post.id) if not after or int(reply.id) > _number(after)]
    page = rest[: int(limit)]
    token = page[-1].id if len(rest) > len(page) else ""
    return Reply(200, {"replies": [shown(reply, call) for reply in page], "next": token}, about=post)


def get_account_metrics(network: Network, call: Call) -> Reply:
    """Counts the account's posts, and makes up the people around it from its name."""
    followers, following = audience(call.account)
    posts = sum(1 for _ in network.posts_of(call.account))
    return Reply(200, {"followers": followers, "following": following, "posts": posts})


def upload_media(network: Network, call: Call) -> Reply:
    """Stores the bytes of a picture or a video; its type follows from the bytes, not from the client's header."""
    media_type = next((name for signature, name in _SIGNATURES if call.body.startswith(signature)), None)
    if call.body[4:8] == b"ftyp":
        media_type = "video/mp4"
    if media_type is None:
        return refusal(422, "media_rejected", "Send a PNG, JPEG, GIF or WebP picture, or an MP4 video.")
    media_id = network.next_id
    network.keep_media(media_id, call.body)
    document = {"id": media_id, "url": f"{call.base_url}/media/{media_id}"}
    return Reply(201, document, change={"uploaded": media_id, "type": media_type})


def get_account(_network: Network, call: Call) -> Reply:
    """Names the account, and hands out the token by which an expired one is renewed."""
    name = call.account.replace("-", " ").replace("_", " ").title()
    url = f"{call.base_url}/@{call.account}"
    document = {"id": call.account, "handle": call.account, "display_name": name, "url": url}
    return Reply(200, document | {"refresh_token": refresh_token_of(call.account)})


def refresh_token(network: Network, call: Call) -> Reply:
    """Gives a new access token for `refresh-<handle>`. The refresh token stays good."""
    sent = call.sent("refresh_token")
    account = account_to_renew(sent)
    if account is None:
        return refusal(401, "token_invalid", "That refresh token is not known.")
    call.account = account
    token = renewed_token(account, network.next_id)
    return Reply(200, {"access_token": token, "refresh_token": sent}, change={"renewed": account})


def shown(post: Post, call: Call) -> dict[str, Any]:
    """A post as the API shows it."""
    return {
        "id": post.id,
        "url": f"{call.base_url}/@{post.account}/{post.id}",
        "account": post.account,
        "text": post.text,
        "key": post.key,
        "media": [{"id": one.id, "alt": one.alt, "url": f"{call.base_url}/media/{one.id}"} for one in post.media],
        "reply_to": post.reply_to,
        "visibility": post.visibility,
        "language": post.language,
        "created_at": post.created_at,
        "published_at": time_text(post.published),
    }


def _number(sent: str) -> int:
    return int(sent[:18]) if sent.isascii() and sent.isdigit() else 0


def _no_post() -> Reply:
    return refusal(404, "not_found", "There is no such post.")


def _read_post(network: Network, call: Call) -> Post:
    """Turns the body into a post that is ready to be published, or raises."""
    if not isinstance(call.document, dict):
        raise _Unusable("body_invalid", "Send a JSON object.")
    sent: dict[str, Any] = call.document
    text, media = _text(sent, "text", TEXT_LIMIT), _media(network, sent.get("media"))
    if not text.strip() and not media:
        raise _Unusable("text_missing", "Send a text or a picture.")
    visibility = _text(sent, "visibility", 20) or "public"
    if visibility not in VISIBILITIES:
        raise _Unusable("visibility_invalid", f"visibility is one of {', '.join(VISIBILITIES)}.")
    return Post(
        id=network.next_id,
        account=call.account,
        text=text,
        key=_text(sent, "key", KEY_LIMIT),
        media=media,
        reply_to=_reply_to(network, sent.get("reply_to")),
        visibility=visibility,
        language=_text(sent, "language", 35),
        created_at=_moment(_text(sent, "created_at", 40), call.arrived),
        published=call.arrived,
    )


def _text(sent: dict[str, Any], name: str, limit: int) -> str:
    value = sent.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Unusable(f"{name}_invalid", f"{name} must be a text.")
    if len(value) > limit:
        raise _Unusable(f"{name}_too_long", f"{name} has {len(value)} characters; at most {limit} are allowed.")
    return value


def _media(network: Network, sent: object) -> tuple[Attachment, ...]:
    if sent is None:
        return ()
    if not isinstance(sent, list) or not all(isinstance(one, dict) for one in sent):
        raise _Unusable("media_invalid", 'media is a list such as [{"id": "1000001", "alt": "…"}].')
    if len(sent) > MEDIA_LIMIT:
        raise _Unusable("media_too_many", f"At most {MEDIA_LIMIT} pictures.")
    attachments = [Attachment(_text(one, "id", 40), _text(one, "alt", ALT_LIMIT)) for one in sent]
    types = [network.media_type(one.id) for one in attachments]
    for attachment, media_type in zip(attachments, types, strict=True):
        if media_type is None:
            raise _Unusable("media_not_found", f"There is no picture {attachment.id}.")
    if len(types) > 1 and "video/mp4" in types:
        raise _Unusable("media_mixed", "A video stands alone.")
    return tuple(replace(one, type=name or "") for one, name in zip(attachments, types, strict=True))


def _reply_to(network: Network, sent: object) -> str | None:
    if sent is None:
        return None
    if not isinstance(sent, str) or network.post(sent) is None:
        raise _Unusable("reply_not_found", "The post to reply to is not there.")
    return sent


def _moment(sent: str, arrived: float) -> str:
    if not sent:
        return time_text(arrived)
    try:
        datetime.fromisoformat(sent)
    except ValueError as error:
        raise _Unusable("created_at_invalid", "created_at is an ISO 8601 time.") from error
    return sent
