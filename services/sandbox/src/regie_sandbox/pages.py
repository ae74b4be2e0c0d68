"""The HTML of the sandbox. Every text from outside passes through `escape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from html import escape
from urllib.parse import urlencode

from regie_sandbox.faults import ENDINGS, OPERATIONS
from regie_sandbox.network import Attachment, Post, time_text
from regie_sandbox.numbers import Numbers, numbers

_FLAGS = ("drop_before", "drop_after", "hang", "hang_after", "expire_tokens")
_FAULTS = {
    "latency_ms": "Answer late (latency_ms)",
    "latency_after_ms": "Take it, answer late (latency_after_ms)",
    "fail_before": "5xx, nothing done (fail_before)",
    "fail_after": "5xx, but done (fail_after)",
    "drop_before": "Hang up, nothing done (drop_before)",
    "drop_after": "Hang up, but done (drop_after)",
    "hang": "Never answer, nothing done (hang)",
    "hang_after": "Never answer, but done (hang_after)",
    "rate_limit": "429, Retry-After (rate_limit)",
    "expire_tokens": "Expire the token (expire_tokens)",
    "reject": "422 with words (reject)",
    "processing_polls": "Work on it for some polls (processing_polls)",
}


def feed_html(threads: Sequence[Sequence[Post]], now: float) -> str:
    """The threads, or a hint where there are none."""
    if not threads:
        return '<p class="empty">Nothing here yet. What is published shows up by itself.</p>'
    return "".join(
        f'<section class="thread{" long" if len(thread) > 1 else ""}" '
        f'aria-label="{"Thread" if len(thread) > 1 else "Post"} by {escape(thread[0].account)}">'
        f"{''.join(_post(post, now) for post in thread)}</section>"
        for thread in threads
    )


def authorize_html(query: Mapping[str, str]) -> str:
    """The page on which a person lets an app into an account; it hands on everything that the app sent."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in query.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Let an app in · Sandbox</title><link rel="stylesheet" href="/assets/feed.css"></head>
<body><main><h1>Let an app into an account?</h1>
<form method="post" action="/oauth/authorize">{hidden}
<label>Account <input name="account" pattern="[A-Za-z0-9_\\-]+" required maxlength="40"></label>
<button>Let it in</button></form></main></body>
</html>"""


def page_html(
    feed: str, *, handle: str | None, post_id: str | None, count: int, rules: Sequence[Mapping[str, object]]
) -> str:
    """The whole page around a feed."""
    title = f"@{handle} · Sandbox" if handle else "Sandbox network"
    source = "/feed?" + urlencode({"handle": handle or "", "id": post_id or ""})
    back = '<a class="back" href="/">← All posts</a>' if handle else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="/assets/feed.css">
<script src="/assets/feed.js" defer></script>
</head>
<body>
<a class="skip" href="#feed">Skip to the posts</a>
<header>
<div><h1><a href="/">Sandbox network</a></h1>
<p>A stand-in for a social network. Nothing here is public.</p></div>
<p class="state"><span id="count" role="status">{_counted(count)}</span>
<button id="pause" type="button" aria-pressed="false">Pause</button></p>
</header>
<div class="columns">
<main id="feed" tabindex="-1">{back}<div id="threads" data-source="{escape(source)}">{feed}</div></main>
<aside aria-labelledby="knobs-title">{_knobs(rules)}</aside>
</div>
</body>
</html>
"""


def _counted(count: int) -> str:
    return f"{count} post{'' if count == 1 else 's'}"


def _post(post: Post, now: float) -> str:
    account = escape(post.account)
    hue = blake2b(post.account.encode(), digest_size=1).digest()[0] % 8
    moment = datetime.fromtimestamp(post.published, UTC)
    visibility = "" if post.visibility == "public" else f'<span class="tag">{escape(post.visibility)}</span>'
    language = f' lang="{escape(post.language)}"' if post.language else ""
    link = f"/@{account}/{escape(post.id)}"
    return f"""<article id="post-{escape(post.id)}" class="post{" reply" if post.reply_to else ""}">
<div class="avatar hue-{hue}" aria-hidden="true">{escape(post.account[:1].upper())}</div>
<div class="content">
<p class="by"><a class="name" href="/@{account}">@{account}</a> {visibility}
<a class="when" href="{link}"><time datetime="{time_text(post.published)}" title="{moment:%Y-%m-%d %H:%M:%S} UTC">\
{_ago(now - post.published)}</time></a></p>
<p class="text" dir="auto"{language}>{escape(post.text)}</p>
{_pictures(post)}{_numbers(numbers(post.id, now - post.published))}
{_key(post)}</div>
</article>"""


def _pictures(post: Post) -> str:
    if not post.media:
        return ""
    pictures = "".join(_video(one) if one.type.startswith("video/") else _picture(one) for one in post.media)
    return f'<div class="pictures of-{len(post.media)}">{pictures}</div>'


def _picture(one: Attachment) -> str:
    return f'<img src="/media/{escape(one.id)}" alt="{escape(one.alt)}" loading="lazy">'


def _video(one: Attachment) -> str:
    return f'<video src="/media/{escape(one.id)}" aria-label="{escape(one.alt)}" controls></video>'


def _numbers(totals: Numbers) -> str:
    shown = (
        ("♥", "likes", totals.likes),
        ("↩", "replies", totals.replies),
        ("⟳", "reposts", totals.reposts),
        ("◔", "impressions", totals.impressions),
    )
    return (
        '<ul class="numbers">'
        + "".join(
            f'<li title="{name}"><span aria-hidden="true">{sign}</span> {total:,}'
            f'<span class="unseen"> {name}</span></li>'
            for sign, name, total in shown
        )
        + "</ul>"
    )


def _key(post: Post) -> str:
    return f'<p class="key">key <code>{escape(post.key)}</code></p>' if post.key else ""


def _ago(seconds: float) -> str:
    if seconds < 5:
        return "now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def _knobs(rules: Sequence[Mapping[str, object]]) -> str:
    faults = "".join(
        f'<option value="{name}" data-kind="{_kind(name)}">{escape(label)}</option>' for name, label in _FAULTS.items()
    )
    operations = "".join(f'<option value="{name}">{name}</option>' for name in OPERATIONS)
    return f"""<h2 id="knobs-title">Knobs</h2>
<p>Make calls go wrong, to see what a client does about it.</p>
<form id="knobs">
<label>What goes wrong <select name="fault">{faults}</select></label>
<label id="value-label">Value <input name="value" value="500" autocomplete="off"></label>
<label>Which calls <select name="operation"><option value="">all</option>{operations}</select></label>
<label>How often <input name="times" type="number" min="1" placeholder="for ever"></label>
<label>Only if the text contains <input name="text_contains" autocomplete="off"></label>
<p class="buttons"><button type="submit">Add</button> <button type="button" id="clear">Clear all</button></p>
<p id="knobs-said" role="alert"></p>
</form>
<h3>In force</h3>
<ol id="rules">{"".join(f"<li>{escape(_rule(rule))}</li>" for rule in rules)}</ol>
<p><a href="/admin/log">The log of all calls</a></p>
<noscript><p>Without JavaScript the page does not refresh itself, and the knobs are at
<code>PUT /admin/faults</code>.</p></noscript>"""


def _kind(name: str) -> str:
    if name in _FLAGS:
        return "flag"
    return "words" if name in ENDINGS and name == "reject" else "number"


def _rule(rule: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {'for ever' if value is None else value}" for name, value in rule.items())
