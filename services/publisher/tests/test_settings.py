"""Settings that cannot be meant are refused at the start, without repeating them."""

from __future__ import annotations

import base64

import pytest
from pydantic import ValidationError
from regie_publisher.channels.sealing import new_master_key
from regie_publisher.settings import PublisherSettings

GOOD: dict[str, str] = {
    "database_url": "postgresql+asyncpg://u:p@h/d",
    "master_key": "zX0fqBgptTtw2MHbsfG5PgxagWOFKrKlFN8w5BRMW_Q=",
}
TRIVIAL = [base64.urlsafe_b64encode(bytes([byte]) * 32).decode() for byte in (0, 1, 255)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("master_key", "s3cret"),
        ("master_key", base64.urlsafe_b64encode(b"s3cret" * 6).decode()),
        *(("master_key", key) for key in TRIVIAL),
        *(("old_master_keys", f"{GOOD['master_key']},{key}") for key in ("s3cret", *TRIVIAL)),
        ("allowed_hosts", "127.0.0.1"),
        ("allowed_hosts", "sandbox:8090, elsewhere"),
        ("allowed_hosts", "http://sandbox:8090"),
        ("REGIE_MEDIA_URL", "/var/lib/s3cret"),
        ("REGIE_MEDIA_URL", "https://s3cret/"),
        ("REGIE_MEDIA_URL", "file:///"),
        ("REGIE_MEDIA_URL", "s3:///s3cret"),
        ("REGIE_MEDIA_URL", "s3://key:s3cret@bucket"),
        ("delivery_life_days", "59"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        PublisherSettings.model_validate(GOOD | {name: value})
    (error,) = refused.value.errors()
    assert error["loc"] == (name,)
    assert "s3cret" not in error["msg"]
    assert GOOD.get(name, "x3cret") not in error["msg"]


def test_good_settings_are_taken() -> None:
    chosen = {
        "allowed_hosts": "Sandbox:8090, [::1]:80",
        "old_master_keys": new_master_key(),
        "media_url": "s3://bucket",
    }
    settings = PublisherSettings.model_validate(GOOD | chosen)
    assert settings.allowed_hosts == ("sandbox:8090", "[::1]:80")
    assert settings.sandbox_enabled
    assert not PublisherSettings.model_validate(GOOD | {"allowed_hosts": ""}).sandbox_enabled
