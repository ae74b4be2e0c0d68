"""Real social networks on the loopback, started once for the whole session and stopped at its end."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from regie_chassis.embedded.children import Child, answers, free_port
from regie_chassis.embedded.postgres import EmbeddedPostgres

HERE = Path(__file__).parent
START_TIMEOUT = 60.0  # seconds; six are usual
JWT_SECRET = secrets.token_hex(16)  # signs the sessions of the servers, and of the tests that need an expired one


class BlueskyAccount(NamedTuple):
    """An account with an app password, as a person would give them to Régie."""

    identifier: str
    password: str
    did: str


class BlueskyNetwork:
    """A directory, a personal data server (PDS), an AppView that follows it, and a second PDS with rate limits on."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self.pds_url = endpoints["pds_url"]
        self.limited_pds_url = endpoints["limited_pds_url"]
        self.appview_url = endpoints["appview_url"]
        self._client = httpx2.Client(timeout=30)
        self._tokens: dict[str, str] = {}
        self._servers: dict[str, str] = {}

    def create_account(self, handle: str, *, limited: bool = False) -> BlueskyAccount:
        """Makes an account (a handle such as `alice.test`) on the PDS, or on the one with rate limits."""
        server = self.limited_pds_url if limited else self.pds_url
        new = {"handle": handle, "email": f"{handle}@example.com", "password": "a-person-types-this"}
        made = self._call("POST", server, "com.atproto.server.createAccount", json=new)
        did = str(made["did"])
        self._tokens[did], self._servers[did] = str(made["accessJwt"]), server
        app = self.call_as(did, "POST", "com.atproto.server.createAppPassword", json={"name": "Regie"})
        return BlueskyAccount(handle, str(app["password"]), did)

    def call_as(self, did: str, method: str, name: str, **request: object) -> dict[str, object]:
        """Calls the account's PDS in its name, beside whatever is under test."""
        return self._call(method, self._servers[did], name, token=self._tokens[did], **request)

    def like(self, did: str, uri: str, cid: str) -> None:
        self._react(did, "app.bsky.feed.like", {"subject": {"uri": uri, "cid": cid}})

    def repost(self, did: str, uri: str, cid: str) -> None:
        self._react(did, "app.bsky.feed.repost", {"subject": {"uri": uri, "cid": cid}})

    def reply(self, did: str, uri: str, cid: str, text: str) -> None:
        post = {"uri": uri, "cid": cid}
        self._react(did, "app.bsky.feed.post", {"text": text, "reply": {"root": post, "parent": post}})

    def records(self, did: str, collection: str = "app.bsky.feed.post") -> list[dict[str, object]]:
        """Returns what is in the account's repository: `uri`, `cid` and `value`, newest first."""
        params = {"repo": did, "collection": collection, "limit": "100"}
        found = self._call("GET", self._servers[did], "com.atproto.repo.listRecords", params=params)["records"]
        assert isinstance(found, list)
        return found

    def expired_token(self, did: str) -> str:
        """Returns an access token that was good until a minute ago."""
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, object] = {"scope": "com.atproto.appPass", "sub": did, "aud": "did:web:localhost"}
        claims |= {"iat": now - 7260, "exp": now - 60}
        return jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims, OctKey.import_key(JWT_SECRET))

    def close(self) -> None:
        self._client.close()

    def _react(self, did: str, collection: str, record: Mapping[str, object]) -> None:
        whole = {"$type": collection, "createdAt": datetime.now(UTC).isoformat(), **record}
        body = {"repo": did, "collection": collection, "record": whole}
        self.call_as(did, "POST", "com.atproto.repo.createRecord", json=body)

    def _call(self, method: str, server: str, name: str, *, token: str = "", **request: object) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self._client.request(method, f"{server}/xrpc/{name}", headers=headers, **request)  # type: ignore[arg-type]
        assert response.is_success, f"{name} answered {response.status_code}: {response.text}"
        body = response.json()
        assert isinstance(body, dict)
        return body


@pytest.fixture(scope="session")
def bluesky_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlueskyNetwork]:
    """A whole Bluesky network of the session's own."""
    installed = _installed_bluesky()
    folder = tmp_path_factory.mktemp("bluesky")
    with ExitStack() as running:
        postgres = EmbeddedPostgres(folder / "postgres", fsync=False)
        running.callback(postgres.stop)
        postgres.start()
        redis_port = free_port()
        redis = _redis(installed, folder, redis_port)
        running.callback(redis.stop)
        redis.start()
        redis.wait_until(lambda: answers(redis_port), timeout=START_TIMEOUT)
        endpoints_file = folder / "endpoints.json"
        node = _node(installed, folder, endpoints_file, postgres, redis_port)
        running.callback(node.stop)
        node.start()
        node.wait_until(endpoints_file.exists, timeout=START_TIMEOUT)
        network = BlueskyNetwork(json.loads(endpoints_file.read_text()))
        running.callback(network.close)
        yield network


def _installed_bluesky() -> Path:
    command = [sys.executable, str(HERE / "install.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        missing = "The real Bluesky network is not installed: run make test-networks"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Path(done.stdout.strip())


def _redis(installed: Path, folder: Path, port: int) -> Child:
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return Child("Redis", [str(installed / "redis" / "redis-server"), *options], log=folder / "redis.log")


def _node(installed: Path, folder: Path, endpoints_file: Path, postgres: EmbeddedPostgres, redis_port: int) -> Child:
    [program] = (installed / "node" / "node_modules").glob("node-*/bin/node")
    scripts = HERE / "bluesky"
    command = [str(program), "--require", str(scripts / "loopback.cjs"), str(scripts / "network.mjs")]
    env = {
        "DB_POSTGRES_URL": postgres.url().replace("+asyncpg", ""),
        "JWT_SECRET": JWT_SECRET,
        "REDIS_HOST": f"127.0.0.1:{redis_port}",
        "TMPDIR": str(folder),
        "LOG_ENABLED": "false",
        "NODE_ENV": "test",
    }
    return Child("Bluesky", [*command, str(installed), str(endpoints_file)], log=folder / "bluesky.log", env=env)
