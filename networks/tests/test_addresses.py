"""Which server addresses are refused."""

from __future__ import annotations

import pytest
from regie_networks.addresses import AddressRefused, check_server_url

ALLOWED = ("127.0.0.1:8090", "private.invalid:443")


@pytest.mark.parametrize(
    "url",
    [
        "http://mastodon.example",
        "ftp://mastodon.example",
        "https://",
        "https://user@mastodon.example",
        "https://user:word@mastodon.example",
        "https://mastodon.example/#part",
        "https://mastodon.example/?query=1",
        "https://mastodon.example\\@127.0.0.1",
        "https://mastodon.example:99999",
        "https://[::1]",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://192.168.1.1:8443",
        "https://127.0.0.2",
        "https://localhost",
        "https://[::ffff:10.0.0.1]",
        "https://2130706433",
        "https://mastodon.example/ path",
        "https://\u2488",
        "https://mastodon..example",
        "someone@somewhere@mastodon.example",
        "https://" + "a" * 600,
        "http://127.0.0.2:8090",
        "http://127.0.0.1:8091",  # another port of an allowed host
        "http://127.0.0.1",
        "https://127.0.0.1",
        "https://127.0.0.1:8443",
        "http://private.invalid",
    ],
)
async def test_an_address_that_is_not_plain_public_https_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        await check_server_url(url, ALLOWED)


@pytest.mark.parametrize(("allowed", "helps"), [(ALLOWED, True), ((), False)])
async def test_a_plain_address_is_told_what_helps_where_some_are_allowed(allowed: tuple[str, ...], helps: bool) -> None:
    with pytest.raises(AddressRefused, match="must begin with https://") as refused:
        await check_server_url("http://127.0.0.1:8091", allowed)
    assert ("PUBLISHER_ALLOWED_HOSTS" in str(refused.value)) is helps
    assert ("leave server_url out" in str(refused.value)) is helps


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://1.1.1.1/", "https://1.1.1.1"),
        ("https://1.1.1.1:8443", "https://1.1.1.1:8443"),
        ("http://127.0.0.1:8090/", "http://127.0.0.1:8090"),
        ("https://127.0.0.1:8090/", "https://127.0.0.1:8090"),
        ("https://private.invalid/", "https://private.invalid"),
        ("https://nowhere.invalid", "https://nowhere.invalid"),
        ("  Nowhere.invalid/\u200b\n", "https://nowhere.invalid"),
        ("HTTPS://NOWHERE.invalid:443/", "https://nowhere.invalid"),
        ("https://nowhere.invalid.", "https://nowhere.invalid"),
        ("@ada@nowhere.invalid", "https://nowhere.invalid"),
        ("ada@nowhere.invalid", "https://nowhere.invalid"),
        ("https://b\u00fccher.invalid", "https://xn--bcher-kva.invalid"),
    ],
)
async def test_a_good_address_is_returned_in_its_plain_form(url: str, plain: str) -> None:
    assert await check_server_url(url, ALLOWED) == plain
