"""A Mastodon server in memory, for tests: an HTTP transport with a memory and faults to order.

Faithful where servers of the family surprise: a key is not bound to a body and may be ignored, errors are in the
account's language or HTML, media is processed late, the rate limit's reset is a date, lists are paged.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOKEN = "a-good-token"  # noqa: S105 - a stand-in server takes it
URL = "https://social.example"

Respond = Callable[[httpx2.Request], httpx2.Response]


@dataclass(slots=True)
class Fault:
    """Answers the next matching call in the server's place; `after_effect` lets the server act first."""

    method: str
    path: str
    respond: Respond
    after_effect: bool = False


@dataclass
class FakeMastodon:
    """`calls` keeps every request; `watch` is called with every request and the server's own response."""

    now: datetime = START
    ignores_keys: bool = False
    has_source: bool = True
    shows_private: bool = True
    media_polls: int = 0
    instances: dict[str, dict[str, object]] = field(default_factory=dict)
    watch: Callable[[httpx2.Request, httpx2.Response], None] = lambda _request, _response: None
    statuses: list[dict[str, object]] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    media: dict[str, dict[str, object]] = field(default_factory=dict)
    calls: list[httpx2.Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    likers: list[dict[str, object]] = field(default_factory=list)
    redirect_uri: str = ""
    challenges: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, dict[str, object]] = field(default_factory=dict)
    _processing: dict[str, int] = field(default_factory=dict)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self.handle))

    def fail(self, method: str, path: str, respond: Respond, *, after_effect: bool = False) -> None:
        self.faults.append(Fault(method, path, respond, after_effect))

    def asked(self, method: str, path: str) -> list[httpx2.Request]:
        return [call for call in self.calls if call.method == method and re.fullmatch(path, call.url.path)]

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._respond(request)
        # As a stream that has not been read, as it comes from a socket.
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=httpx2.ByteStream(answer.content))

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(request)
        fault = next((each for each in self.faults if _matches(each, request)), None)
        if fault is not None:
            self.faults.remove(fault)
            if not fault.after_effect:
                return fault.respond(request)
        response = self._answer(request)
        self.watch(request, response)
        return fault.respond(request) if fault is not None else response

    def write(self, text: str, **members: object) -> dict[str, object]:
        """Puts a status on the server, one second after the last."""
        self.now += timedelta(seconds=1)
        number = str(1000 + len(self.statuses))
        status: dict[str, object] = {
            "id": number,
            "uri": f"{URL}/users/ana/statuses/{number}",
            "url": f"{URL}/@ana/{number}",
            "created_at": self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "edited_at": None,
            "account": self.account(),
            "content": rendered(text),
            "visibility": "public",
            "language": None,
            "in_reply_to_id": None,
            "media_attachments": [],
            "reblog": None,
            "sensitive": False,
            "spoiler_text": "",
            "emojis": [],
            "tags": [],
            "mentions": [],
            "replies_count": 0,
            "reblogs_count": 0,
            "favourites_count": 0,
            **members,
        }
        self.statuses.append(status)
        self.sources[number] = text.strip()
        return status

    def account(self) -> dict[str, object]:
        return {
            "id": "7",
            "username": "ana",
            "acct": "ana",
            "display_name": "Ana",
            "url": f"{URL}/@ana",
            **self._counts(),
        }

    def _counts(self) -> dict[str, int]:
        return {"followers_count": 12, "following_count": 3, "statuses_count": len(self.statuses)}

    def _delete_status(self, path: str) -> httpx2.Response:
        found = next((each for each in self.statuses if path == f"/api/v1/statuses/{each['id']}"), None)
        if found is None:
            return _error(404, "Nicht gefunden")
        self.statuses.remove(found)
        return httpx2.Response(200, json={**found, "text": self.sources.pop(str(found["id"]))})

    def _context(self, status_id: object) -> httpx2.Response:
        known, descendants = {status_id}, []
        for status in self.statuses:
            if status["in_reply_to_id"] in known:
                known.add(status["id"])
                descendants.append(status)
        return httpx2.Response(200, json={"ancestors": [], "descendants": descendants})

    def approve(self, url: str) -> str:
        """Lets an app in, as a person does at its authorization address, and returns where they are sent."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert (query["client_id"], query["redirect_uri"]) == ("app-1", self.redirect_uri)
        self.challenges["code-1"] = query["code_challenge"]
        return f"{query['redirect_uri']}?{urlencode({'code': 'code-1', 'state': query['state']})}"

    def _register(self, request: httpx2.Request) -> httpx2.Response:
        self.redirect_uri = json.loads(request.content)["redirect_uris"]
        return httpx2.Response(200, json={"id": "1", "client_id": "app-1", "client_secret": "app-secret-1"})

    def _give_token(self, request: httpx2.Request) -> httpx2.Response:
        form = dict(parse_qsl(request.content.decode()))
        if (form.get("client_id"), form.get("client_secret")) != ("app-1", "app-secret-1"):
            return httpx2.Response(401, json={"error": "invalid_client", "error_description": "不明なアプリ"})
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if self.challenges.get(form.get("code", "")) != challenge or form.get("redirect_uri") != self.redirect_uri:
            return httpx2.Response(400, json={"error": "invalid_grant", "error_description": "無効なコード"})
        del self.challenges[form["code"]]
        scope = "read write:statuses write:media"
        return httpx2.Response(200, json={"access_token": TOKEN, "token_type": "Bearer", "scope": scope})

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path in ("/api/v1/apps", "/oauth/token"):
            return self._register(request) if request.url.path == "/api/v1/apps" else self._give_token(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "アクセストークンは無効です")
        path = request.url.path
        if request.method != "GET":
            return self._change(request)
        if path in ("/api/v1/instance", "/api/v2/instance"):
            found = self.instances.get(path)
            return _error(404, "Nicht gefunden") if found is None else httpx2.Response(200, json=found)
        if path in ("/api/v1/accounts/verify_credentials", "/api/v1/accounts/7"):
            return httpx2.Response(200, json=self.account())
        if path == "/api/v1/accounts/7/statuses":
            return self._list(request)
        if path.startswith("/api/v1/media/"):
            return self._poll(path.rpartition("/")[2])
        return self._read_status(path)

    def _change(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            return self._delete_status(request.url.path)
        return self._post_status(request) if request.url.path == "/api/v1/statuses" else self._post_media(request)

    def _post_status(self, request: httpx2.Request) -> httpx2.Response:
        key = request.headers.get("Idempotency-Key", "")
        if key in self._keys and not self.ignores_keys:
            return httpx2.Response(200, json=self._keys[key])
        body = json.loads(request.content)
        reply_to = body.get("in_reply_to_id")
        if reply_to is not None and reply_to not in self.sources:
            return _error(404, "Nicht gefunden")
        attached = [self.media[media_id] for media_id in body.get("media_ids", []) if media_id in self.media]
        if not body.get("status", "").strip() and not attached:
            return _error(422, "バリデーションに失敗しました: Textを入力してください")
        status = self.write(
            body.get("status", ""),
            visibility=body.get("visibility", "unlisted"),
            language=body.get("language"),
            in_reply_to_id=reply_to,
            media_attachments=attached,
        )
        self._keys[key] = status
        return httpx2.Response(200, json=status)

    def _post_media(self, request: httpx2.Request) -> httpx2.Response:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        form = _form(head + request.content)
        if "file" not in form:
            return _error(422, "ファイルがありません")
        description = form["description"].decode() if "description" in form else None
        media_id = str(500 + len(self.media))
        ready = self.media_polls == 0
        entry = {
            "id": media_id,
            "type": "video" if b"ftyp" in form["file"][:12] else "image",
            "url": f"{URL}/m/{media_id}" if ready else None,
        }
        self.media[media_id] = {**entry, "description": description}
        self._processing[media_id] = self.media_polls
        return httpx2.Response(200 if ready else 202, json=self.media[media_id])

    def _poll(self, media_id: str) -> httpx2.Response:
        if media_id not in self.media:
            return _error(404, "Nicht gefunden")
        self._processing[media_id] -= 1
        return httpx2.Response(206 if self._processing[media_id] >= 0 else 200, json=self.media[media_id])

    def _list(self, request: httpx2.Request) -> httpx2.Response:
        below = int(request.url.params.get("max_id", "999999"))
        limit = min(int(request.url.params.get("limit", "20")), 40)
        page = [status for status in reversed(self.statuses) if int(str(status["id"])) < below]
        page = page[:limit]
        if not self.shows_private:
            page = [status for status in page if status["visibility"] in ("public", "unlisted")]
        return httpx2.Response(200, json=page)

    def _read_status(self, path: str) -> httpx2.Response:
        match = re.fullmatch(r"/api/v1/statuses/(\d+)(/source|/favourited_by|/context)?", path)
        status = next((each for each in self.statuses if match and each["id"] == match[1]), None)
        if status is None or match is None or (match[2] == "/source" and not self.has_source):
            return httpx2.Response(404, html="<h1>Seite nicht gefunden</h1>")
        if match[2] == "/context":
            return self._context(match[1])
        if match[2] == "/favourited_by":
            return httpx2.Response(200, json=self.likers)
        if match[2] == "/source":
            number = match[1]
            return httpx2.Response(200, json={"id": number, "text": self.sources[number], "spoiler_text": ""})
        return httpx2.Response(200, json=status)


def rendered(text: str) -> str:
    """Returns a status' HTML in Mastodon's manner: links with hidden parts, mentions without their host."""
    paragraphs = re.split(r"\n{2,}", text.strip())
    return "".join(f"<p>{_lines(paragraph)}</p>" for paragraph in paragraphs)


def _lines(paragraph: str) -> str:
    words = re.split(r"(\s)", paragraph)
    return "".join("<br />" if word == "\n" else _word(word) for word in words)


def _word(word: str) -> str:
    if link := re.fullmatch(r"(https?://)(\S{1,30})(\S*)", word):
        address = html.escape(word)
        hidden, shown, rest = (html.escape(part) for part in link.groups())
        return (
            f'<a href="{address}" target="_blank" rel="nofollow noopener" translate="no">'
            f'<span class="invisible">{hidden}</span><span class="{"ellipsis" if rest else ""}">{shown}</span>'
            f'<span class="invisible">{rest}</span></a>'
        )
    if mention := re.fullmatch(r"@([a-z0-9_]+)@([a-z0-9.]+[a-z0-9])", word):
        return (
            f'<span class="h-card" translate="no"><a href="https://{mention[2]}/@{mention[1]}" class="u-url mention">'
            f"@<span>{mention[1]}</span></a></span>"
        )
    if tag := re.fullmatch(r"#([a-z0-9]+)", word):
        return f'<a href="{URL}/tags/{tag[1]}" class="mention hashtag" rel="tag">#<span>{tag[1]}</span></a>'
    return html.escape(word, quote=True)


def _matches(fault: Fault, request: httpx2.Request) -> bool:
    return fault.method == request.method and re.fullmatch(fault.path, request.url.path) is not None


def _error(status: int, words: str) -> httpx2.Response:
    return httpx2.Response(status, json={"error": words})


def _form(whole: bytes) -> dict[str, bytes]:
    parts = message_from_bytes(whole).walk()
    fields = [(part.get_param("name", header="content-disposition"), part.get_payload(decode=True)) for part in parts]
    return {str(name): payload for name, payload in fields if name is not None and isinstance(payload, bytes)}
