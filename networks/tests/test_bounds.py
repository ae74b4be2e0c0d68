"""A network's data are bounded where they come in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_networks.bounds import MAX_SENTENCE, MAX_TOTAL, is_actor_id, is_id, sentence, visible, web_url
from regie_networks.contract import Connection
from regie_networks.draft import Processing, Remote
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused
from regie_networks.observation import Engagement, Observation

SERVER = "https://social.example"
HARMFUL = "\x00\x07\r\n\u202e\u2066\ud800"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " https://a.example",
        "data:text/html,x",
        "//a.example/1",
        "https:///1",
        "https://a.example/\u202egpj.exe",
        "https://a.example/\n",
        "https://a.example:port/",
        "https://bank.example@a.example/",
        "https://bank.example\\@a.example/",
        "https://[::1",
        "https://a.example/" + "x" * 2048,
        "",
    ],
)
def test_an_address_that_no_browser_should_open_is_none(url: str) -> None:
    assert web_url(url) == ""
    assert Remote("1", url) == Remote("1", "")


@pytest.mark.parametrize("url", ["https://a.example/@ada/1", "http://127.0.0.1:8090/1", "https://a.example/@ä/1?x=y#z"])
def test_an_address_of_a_post_stays_as_it_is(url: str) -> None:
    assert Remote("1", url).url == url


@given(st.text(max_size=3000))
def test_whatever_is_said_becomes_one_line_that_turns_nothing_around(text: str) -> None:
    line = sentence(text)
    assert len(line) <= MAX_SENTENCE
    assert visible(line) == line
    assert len(line.splitlines()) <= 1
    assert str(OutcomeUnknown(text)) == line
    line.encode()


def test_words_keep_what_belongs_to_writing() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert visible(f"क्\u200dष {family}{HARMFUL}") == f"क्\u200dष {family}"


@given(st.text(max_size=700))
def test_an_id_fits_into_every_index_and_event(text: str) -> None:
    if is_id(text):
        assert 0 < len(text.encode()) <= 500
    if is_actor_id(text):
        assert len(f"mastodon:{text}") <= 500
        assert text.isprintable()


NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none())


@given(st.dictionaries(st.sampled_from(["likes", "replies", "views"]), NUMBERS))
def test_totals_are_whole_numbers_within_their_bounds_and_the_rest_is_counted(values: dict[str, int]) -> None:
    observation = Observation("1", values)
    assert all(type(value) is int and 0 <= value <= MAX_TOTAL for value in observation.values.values())
    assert len(observation.values) + observation.left_out == len(values)


def test_a_kind_of_reaction_that_nobody_knows_is_left_out() -> None:
    people = (Engagement("1", "a", "like"), Engagement("2", "b", "poke"), Engagement("", "c", "like"))
    assert Observation("1", {}, people).engagements == people[:1]


@pytest.mark.parametrize(
    ("remote_id", "handle", "name", "secrets"),
    [
        ("鬱" * 4000, "ada", "Ada", {}),
        ("1\n", "ada", "Ada", {}),
        ("1", "u" * 800_000, "Ada", {}),
        ("1", "ada", "A" * 501, {}),
        ("1", "ada", "Ada", {"access_token": "x" * 1_000_000}),
        ("1", "ada", "Ada", {f"{number}": "x" for number in range(100)}),
    ],
)
def test_an_account_beyond_the_bounds_is_refused(
    remote_id: str, handle: str, name: str, secrets: dict[str, str]
) -> None:
    with pytest.raises(Refused, match="The server gives"):
        Connection(SERVER, remote_id, handle, name, secrets)


def test_names_are_shown_as_they_are_written() -> None:
    connection = Connection(SERVER, "1", f"ada{HARMFUL}", f"{HARMFUL}Ada", {})
    assert (connection.handle, connection.display_name) == ("ada", "Ada")


@pytest.mark.parametrize("said", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=-5)])
def test_no_network_is_called_again_at_once(said: timedelta) -> None:
    second = timedelta(seconds=1)
    assert Refused(FailureKind.RATE_LIMITED, "", retry_after=said).retry_after == second
    assert Processing("handle", said).check_after == second


def test_a_network_makes_nothing_wait_for_ever() -> None:
    day = timedelta(days=1)
    assert Refused(FailureKind.RATE_LIMITED, "", retry_after=365 * day).retry_after == day
    with pytest.raises(OutcomeUnknown, match="too long to keep"):
        Processing("h" * 10_001, day)
