"""The status at a person's address: resolved by the server, in any spelling of the address, and never guessed."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import Inconclusive, NotNamed, OutcomeUnknown
from regie_networks.lookup import Lookup, Rival
from regie_networks.mastodon.testing.drafts import answering, draft
from regie_networks.mastodon.testing.server import START, URL, FakeMastodon, Respond
from regie_networks.testing.fakes import alone

HOST = URL.removeprefix("https://")
POST = Remote("1001", f"{URL}/@ana/1001")


@pytest.fixture
def server() -> FakeMastodon:
    server = FakeMastodon()
    server.write("Etwas anderes")
    server.write("Hallo")
    return server


SPELLINGS = [
    "/@ana/1001",
    "/@ana/1001/",
    "/@ANA/1001",
    "/@ana/1001?x=2&id=1000",
    "/@ana/1001#1000",
    "/@ana/1001/embed",
    "/@ana/1001.json",
    "/%40ana/1001",
    "/@ana/%31001",
    "/@ana/statuses/1001",
    "/users/ana/statuses/1001",
    "/users/ana/statuses/1001/activity",
    "/ap/users/7/statuses/1001",
    "/web/statuses/1001",
    "/web/@ana/1001",
    "/deck/@ana/1001",
    "/statuses/1001",
    "/notice/1001",
    "/p/ana/1001",
]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_the_post_behind_an_address_is_the_servers_own(mastodon: Connector, path: str) -> None:
    assert await mastodon.named(draft("Hallo"), 0, URL + path, alone()) == POST
    assert await mastodon.named(draft("Hallo"), 0, f"HTTP://{HOST.upper()}:80{path}", alone()) == POST


NO_POSTS = [
    "/",
    "/web",
    "/web/home",
    "/@ana",
    "/users/ana1001",
    "/@ana/1001;p=1",
    "/@ana/1001/photo/1",
    "/@ana/1001/reblogs",
    "/@ana/1001-slug",
    "/@ana/1001_",
    "/@ana/01001",
    "/@ana/999",
    "/@ana/1001%2520",
    "/@ana/1001%00",
    "/@ana/\u0661\u0660\u0660\u0661",
    "/@ana/\uff11\uff10\uff10\uff11",
    "/@ana/" + "\u6f22" * 800,
    "/api/v1/statuses/1001",
    "/open?url=https%3A%2F%2Fsocial.example%2F%40ana%2F1001",
    "/#/social.example/s/1001",
]


@pytest.mark.parametrize("path", NO_POSTS)
async def test_what_the_server_shows_no_post_at_names_none(mastodon: Connector, path: str) -> None:
    with pytest.raises(NotNamed):
        await mastodon.named(draft("Hallo"), 0, URL + path, alone())


@pytest.mark.parametrize("place", ["https://other.example", f"https://{HOST}.evil.example", f"https://{HOST}:8443"])
async def test_an_address_of_another_server_names_none(server: FakeMastodon, mastodon: Connector, place: str) -> None:
    with pytest.raises(NotNamed, match="not an address at"):
        await mastodon.named(draft("Hallo"), 0, f"{place}/@ana/1001", alone())
    assert server.calls == []


async def test_a_post_that_cannot_be_the_segments_is_named_as_another(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Hallo", account={**server.account(), "id": "8"})
    server.write("Hallo", in_reply_to_id="1000")
    server.write("Hallo", created_at="2020-01-01T00:00:00.000Z")
    for number, why, remote_id in (
        ("1000", "another text", "1000"),
        ("1002", "another account", ""),
        ("1003", "another place", "1003"),
        ("1004", "older than this delivery", "1004"),
    ):
        with pytest.raises(NotNamed, match=why) as refused:
            await mastodon.named(draft("Hallo"), 0, f"{URL}/@ana/{number}", alone())
        assert refused.value.remote_id == remote_id


async def test_the_part_of_a_thread_is_told_by_what_it_answers(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Zwei", in_reply_to_id="1001")
    thread = draft("Hallo", "Zwei")
    thread.remotes.append(POST)
    assert await mastodon.named(thread, 1, f"{URL}/@ana/1002", alone()) == Remote("1002", f"{URL}/@ana/1002")
    with pytest.raises(NotNamed, match="another place"):
        await mastodon.named(thread, 1, f"{URL}/@ana/1001", alone())


async def test_an_address_of_another_form_is_looked_for_word_for_word(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Hallo", url=f"{URL}/display/59b1-0012", uri=f"{URL}/objects/59b1-0012")
    for address in ("display/59b1-0012/", "display/59b1-0012?x=1#y", "objects/59b1-0012"):
        assert (await mastodon.named(draft("Hallo"), 0, f"{URL}/{address}", alone())).id == "1002"
    server.write("Hallo", url=f"{URL}/channel/ana?mid=x7ba5")
    assert (await mastodon.named(draft("Hallo"), 0, f"{URL}/channel/ana?mid=x7ba5#y", alone())).id == "1003"
    with pytest.raises(NotNamed, match="copy it from the post's own page"):
        await mastodon.named(draft("Hallo"), 0, f"{URL}/display/59b1-0013", alone())


def open_elsewhere(text: str, reply_to: str = "") -> Lookup:
    """A look beside another delivery of the account with an open outcome."""
    return alone(rivals=[Rival("another-key", text, reply_to, (), {})])


async def test_a_text_that_the_server_changed_does_not_speak_against_it(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.has_source = False
    server.write("Hallo", content="<p>Hallo  <b>!</b></p>", edited_at="2026-03-02T08:00:00.000Z")
    assert (await mastodon.named(draft("Hallo"), 0, f"{URL}/@ana/1002", alone())).id == "1002"


PAIRS = [
    ("neu: https://example.com/a", "neu: https://example.com/b"),
    ("fertig \U0001f389", "fertig \u274c"),
    ("heute?", "heute!"),
    ("minus -5", "minus 5"),
]


@pytest.mark.parametrize(("text", "theirs"), PAIRS)
async def test_what_is_exactly_an_open_deliverys_text_is_not_taken_for_one_that_is_like_it(
    server: FakeMastodon, mastodon: Connector, text: str, theirs: str
) -> None:
    server.write(theirs)
    url = f"{URL}/@ana/1002"
    with pytest.raises(NotNamed, match="looks like that of another delivery"):
        await mastodon.named(draft(text), 0, url, open_elsewhere(theirs))
    assert (await mastodon.named(draft(theirs), 0, url, open_elsewhere(text))).id == "1002"
    assert (await mastodon.named(draft(theirs), 0, url, open_elsewhere(theirs))).id == "1002", "either may be meant"
    assert (await mastodon.named(draft(text), 0, url, open_elsewhere(theirs, reply_to="7"))).id == "1002"


@pytest.mark.parametrize("edited", [None, "2026-03-02T08:00:00.000Z"])
@pytest.mark.parametrize("has_source", [True, False])
async def test_another_text_is_another_post_on_whatever_server(
    server: FakeMastodon, mastodon: Connector, edited: str | None, has_source: bool
) -> None:
    server.has_source = has_source
    server.write("Zebra crossing closed tonight", edited_at=edited)
    with pytest.raises(NotNamed, match="another text"):
        await mastodon.named(draft("Alpha apples in the morning"), 0, f"{URL}/@ana/1002", alone())


async def test_a_boost_and_what_another_delivery_holds_are_no_posts_to_take(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Hallo", reblog=server.statuses[1])
    with pytest.raises(NotNamed, match="a boost"):
        await mastodon.named(draft("Hallo"), 0, f"{URL}/@ana/1002", alone())
    with pytest.raises(NotNamed, match="another delivery's") as refused:
        await mastodon.named(draft("Hallo"), 0, f"{URL}/@ana/1001", alone(taken=["1001"]))
    assert refused.value.remote_id == "1001"


@pytest.mark.parametrize(
    ("path", "respond", "error"),
    [
        ("/@ana/1001", answering(502), OutcomeUnknown),
        ("/@ana/1001", answering(200, json={"id": "1001", "account": {"id": "7"}}), Inconclusive),
        ("/@ana/1001", answering(200, json=["1001"]), Inconclusive),
        ("/@ana/1001", answering(200, html="<p>Hallo</p>"), Inconclusive),
        ("/@ana/1001", answering(200, json={"id": "1001", "account": None}), Inconclusive),
        ("/@ana/1001", answering(200, json={"id": "999", "account": {"id": "7"}}), Inconclusive),
        ("/@ana/1001", answering(410), NotNamed),
    ],
)
async def test_a_server_that_does_not_say_settles_nothing(
    server: FakeMastodon,
    mastodon: Connector,
    path: str,
    respond: Respond,
    error: type[Exception],
) -> None:
    server.fail("GET", r"/api/v1/statuses/\d+", respond)
    with pytest.raises(error):
        await mastodon.named(draft("Hallo"), 0, URL + path, alone())


async def test_a_clock_of_the_server_that_is_behind_is_forgiven(server: FakeMastodon, mastodon: Connector) -> None:
    behind = {"Date": format_datetime(START - timedelta(minutes=20), usegmt=True)}
    status = {**server.statuses[1], "created_at": (START - timedelta(minutes=20)).isoformat()}
    server.fail("GET", r"/api/v1/statuses/1001", answering(200, json=status, headers=behind))
    assert await mastodon.named(draft("Hallo"), 0, f"{URL}/@ana/1001", alone()) == POST
    early = draft("Hallo", compose_time=START + timedelta(minutes=10))
    assert await mastodon.named(early, 0, f"{URL}/@ana/1001", alone()) == POST
