"""The page."""

from __future__ import annotations

import re
from typing import Any

import httpx2

PNG = b"\x89PNG\r\n\x1a\n"
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


async def post(client: httpx2.AsyncClient, **fields: Any) -> str:
    made: str = (await client.post("/api/v1/posts", json=fields)).raise_for_status().json()["id"]
    return made


async def test_whatever_came_from_outside_is_escaped(client: httpx2.AsyncClient) -> None:
    media = (await client.post("/api/v1/media", content=PNG)).json()["id"]
    await post(client, text=ATTACK, key=ATTACK, language='"><b>', media=[{"id": media, "alt": ATTACK}])
    await client.put("/admin/faults", json=[{"reject": ATTACK, "text_contains": "<b>"}])
    for path in ("/", "/feed"):
        page = await client.get(path)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<b>" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]


async def test_the_page_shows_posts_with_pictures_numbers_and_names(client: httpx2.AsyncClient) -> None:
    media = (await client.post("/api/v1/media", content=PNG)).json()["id"]
    made = await post(client, text="A cat", visibility="unlisted", media=[{"id": media, "alt": "It sleeps"}])
    page = (await client.get("/")).text
    assert re.search(r'<time datetime="[0-9T:.-]+Z"', page)
    for part in (
        f'src="/media/{media}" alt="It sleeps"',
        "A cat",
        "@ada",
        "unlisted",
        "likes",
        f"/@ada/{made}",
        "<time",
    ):
        assert part in page
    assert "1 post<" in page


async def test_a_thread_stands_together_in_its_order(client: httpx2.AsyncClient) -> None:
    first = await post(client, text="one")
    await post(client, text="stranger", key="s")
    second = await post(client, text="two", reply_to=first)
    third = await post(client, text="three", reply_to=second)
    feed = (await client.get("/feed")).text
    assert feed.count("<section") == 2
    places = [feed.index(f'id="post-{one}"') for one in (first, second, third)]
    assert places == sorted(places)
    assert feed.index("stranger") < places[0]
    alone = (await client.get(f"/@ada/{third}")).text
    assert f'id="post-{first}"' in alone
    assert "stranger" not in alone


async def test_a_deleted_first_post_leaves_its_replies_visible(client: httpx2.AsyncClient) -> None:
    first = await post(client, text="one")
    await post(client, text="two", reply_to=first)
    await client.delete(f"/api/v1/posts/{first}")
    feed = (await client.get("/feed")).text
    assert "two" in feed
    assert "one" not in feed


async def test_an_account_has_its_page_and_nobody_has_a_missing_post(client: httpx2.AsyncClient) -> None:
    await post(client, text="by ada")
    assert "by ada" not in (await client.get("/@bob")).text
    assert "by ada" in (await client.get("/@ada")).text
    assert (await client.get("/@ada/404")).status_code == 404
    assert (await client.get("/media/404")).status_code == 404


async def test_style_and_script_are_served_and_nothing_else(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/assets/feed.js")).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/assets/feed.css")).status_code == 200
    assert (await client.get("/assets/..%2fapp.py")).status_code == 404
