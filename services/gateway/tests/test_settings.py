"""Settings that cannot be meant are refused at the start, without repeating them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from regie_chassis.boundary.identity import new_key
from regie_chassis.process.settings import WrongSetting
from regie_gateway.backends import open_backends
from regie_gateway.settings import GatewaySettings

KEY = new_key()
GOOD: dict[str, str] = {
    "database_url": "postgresql+asyncpg://u:p@h/d",
    "identity_private_key": json.dumps(KEY.as_dict(private=True)),
    "targets": json.dumps(
        {
            "scheduler": "scheduler:7001",
            "publisher": "ipv4:127.0.0.1:1,127.0.0.1:2",
            "audience": "dns:///audience:7003",
            "metrics": "[::1]:7004",
        }
    ),
}
TRIVIAL = {"kty": "OKP", "crv": "Ed25519", "x": "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik", "d": "A" * 43}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity_private_key", "s3cret"),
        pytest.param("identity_private_key", json.dumps(KEY.as_dict(private=False)), id="the public half alone"),
        ("identity_private_key", json.dumps(TRIVIAL)),
        ("targets", "scheduler:7001"),
        ("targets", '{"scheduler": "scheduler"}'),
        ("targets", '{"scheduler": "http://scheduler:7001"}'),
        ("targets", '{"scheduler": ":7001"}'),
        ("targets", '{"scheduler": "scheduler:0"}'),
        ("trusted_proxies", "10.0.0.0/8,s3cret"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("cors_origins", "https://app.example.org/path"),
        ("cors_origins", "app.example.org"),
        ("cors_origins", "*,https://app.example.org"),
        ("cors_origins", "https://*.example.org"),
        ("connections", "0"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GatewaySettings.model_validate(GOOD | {name: value})
    (error,) = refused.value.errors()
    assert error["loc"] == (name,)
    assert "s3cret" not in error["msg"]
    assert GOOD.get(name, "x3cret") not in error["msg"]


def test_a_service_without_a_target_is_named() -> None:
    with pytest.raises(WrongSetting, match=r"GATEWAY_TARGETS: .* 'scheduler'"):
        open_backends({})


def test_good_settings_are_taken() -> None:
    chosen = {
        "trusted_proxies": "10.0.0.0/8, fd00::/8",
        "cors_origins": "https://App.example.org, http://localhost:5173",
    }
    settings = GatewaySettings.model_validate(GOOD | chosen)
    assert settings.cors_origins == ("https://app.example.org", "http://localhost:5173")
    assert settings.trusted_proxies == ("10.0.0.0/8", "fd00::/8")
