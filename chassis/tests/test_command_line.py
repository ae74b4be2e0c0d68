from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic_settings import SettingsConfigDict
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCreated
from regie_chassis.boundary.identity import new_key
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.events import dead_letters
from regie_chassis.events.messaging import Envelope, Received, headers_of, subject_of
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.command_line import commands
from regie_chassis.process.service import Readiness, Service, open_database, open_rpc
from regie_chassis.process.settings import ServiceSettings
from regie_local.testing.clock import START
from typer.testing import CliRunner

FOLDER = Path(__file__).parent / "migrations"
URL = "DEMO_DATABASE_URL"


class DemoSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="DEMO_", populate_by_name=True, extra="ignore")

    watch: bool = False


def never(settings: DemoSettings) -> Service:
    pytest.fail("must not be built")


demo = commands("demo", DemoSettings, never, folder=FOLDER)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment without settings; the logs go back to where they went, since a command's stream is closed then."""
    handlers, level, hook = logging.root.handlers[:], logging.root.level, sys.excepthook
    for name in (URL, "NATS_URL", "NATS_CREDENTIALS", "REGIE_LOG_LEVEL", "DEMO_RPC_PORT", "REGIE_IDENTITY_PUBLIC_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    logging.root.handlers[:], sys.excepthook = handlers, hook
    logging.root.setLevel(level)


@pytest.mark.parametrize("command", ["serve", "migrate", "redrive"])
def test_a_missing_setting_is_named_as_it_has_to_be_set(command: str) -> None:
    result = CliRunner().invoke(demo, [command])
    assert result.exit_code == 2
    assert f"setting {URL}: this is required; give it" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEMO_RPC_PORT", "70000"),
        ("DEMO_RPC_PORT", "s3cret"),
        ("REGIE_STREAM_REPLICAS", "9"),
        ("REGIE_LOG_LEVEL", "s3cret"),
        (URL, "s3cret"),
        (URL, "postgresql://u:s3cret@h/d"),
        (URL, "postgresql+asyncpg://u:s3cret@h:port/d"),
        (URL, "postgresql+asyncpg://u:s3cret@h"),
        ("NATS_URL", "s3cret"),
        ("NATS_URL", "nats://u:s3cret@h:4222"),
        ("NATS_URL", "nats://h:4222,nats://h:s3cret"),
        ("NATS_CREDENTIALS", "/nowhere/s3cret"),
        ("REGIE_OTLP_ENDPOINT", "https://s3cret/"),
        ("DEMO_DRAIN_SECONDS", "inf"),
        ("REGIE_IDENTITY_PUBLIC_KEY", "s3cret"),
        ("REGIE_IDENTITY_PUBLIC_KEY", '"s3cret"'),
        ("REGIE_IDENTITY_PUBLIC_KEY", '{"kty": "oct", "k": "s3cret"}'),
        ("REGIE_IDENTITY_PUBLIC_KEY", '{"kty": "OKP", "crv": "Ed25519", "x": "s3cret"}'),
        ("REGIE_IDENTITY_PUBLIC_KEY", json.dumps(new_key().as_dict(private=True) | {"kid": "s3cret"})),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(URL, "postgresql+asyncpg://u:s3cret@h/d")
    environment.setenv(name, value)
    result = CliRunner().invoke(demo, ["serve"])
    assert result.exit_code == 2
    assert f"setting {name}: " in result.output
    assert "s3cret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("REGIE_LOG_LEVEL", "LOUD", "give one of 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
        ("DEMO_RPC_PORT", "abc", "give a whole number"),
        ("DEMO_RPC_PORT", "70000", "give 65535 or less"),
        ("DEMO_RPC_PORT", "-1", "give 0 or more"),
        ("DEMO_DRAIN_SECONDS", "abc", "give a number"),
        ("DEMO_DRAIN_SECONDS", "0", "give more than 0.0"),
        ("REGIE_TRACE_SAMPLE_RATIO", "nan", "give "),
        ("REGIE_OTLP_ENDPOINT", "https://collector", "give host:port, as in 127.0.0.1:4317, or leave it empty"),
        ("DEMO_WATCH", "perhaps", "give true or false"),
    ],
)
def test_a_wrong_setting_says_what_to_give(
    environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    environment.setenv(URL, "postgresql+asyncpg://u:s3cret@h/d")
    environment.setenv(name, value)
    result = CliRunner().invoke(demo, ["serve"])
    assert result.exit_code == 2
    assert result.output.startswith(f"setting {name}: {message}")
    assert result.output.count("\n") == 1


def test_a_level_may_be_written_in_any_case(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(URL, "postgresql+asyncpg://u:s3cret@h/d")
    environment.setenv("REGIE_LOG_LEVEL", "Warning")
    assert DemoSettings().log_level == "WARNING"  # type: ignore[call-arg]  # the environment gives the arguments


def test_a_setting_that_only_building_finds_out_is_named_too(environment: pytest.MonkeyPatch) -> None:
    def build(settings: DemoSettings) -> Service:
        readiness = Readiness(open_database(settings, "demo"), [])
        open_rpc(settings, clock=SystemClock(), register=[], readiness=readiness)
        pytest.fail("must not go on without a key")

    environment.setenv(URL, "postgresql+asyncpg://u:s3cret@h/d")
    result = CliRunner().invoke(commands("demo", DemoSettings, build, folder=FOLDER), ["serve"])
    assert result.exit_code == 2
    assert "setting REGIE_IDENTITY_PUBLIC_KEY: give the gateway's public key" in result.output
    assert "Traceback" not in result.output


def test_shared_settings_have_no_prefix_and_own_ones_have(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(URL, "postgresql+asyncpg://u:s3cret@h/d")
    environment.setenv("NATS_URL", "nats://elsewhere:4222")
    environment.setenv("DEMO_RPC_PORT", "7001")
    environment.setenv("RPC_PORT", "7002")
    environment.setenv("REGIE_LOG_LEVEL", "debug")
    settings = DemoSettings()  # type: ignore[call-arg]  # the environment gives the arguments
    assert (settings.nats_url, settings.rpc_port) == ("nats://elsewhere:4222", 7001)
    assert "s3cret" not in repr(settings)


def test_without_a_command_it_tells_the_commands() -> None:
    output = CliRunner().invoke(demo, []).output
    assert all(word in output for word in ("serve", "migrate", "redrive", "redrive-outbox"))


def received(post: str, seq: int) -> Received:
    name = PostCreated.DESCRIPTOR.full_name
    event_id, workspace = new_id(), new_id()
    headers = headers_of(name, event_id=event_id, workspace_id=workspace, time=START, traceparent="")
    payload = PostCreated(post_id=post).SerializeToString()
    return Received(Envelope(subject_of(name, workspace), str(event_id), payload, headers), seq, 1, None)


async def test_a_redrive_of_an_event_that_is_not_there_says_so(
    environment: pytest.MonkeyPatch, database: Database
) -> None:
    environment.setenv(URL, str(database.url))
    absent = await asyncio.to_thread(CliRunner().invoke, demo, ["redrive-outbox", "--row", "7"])
    assert absent.exit_code == 1
    assert absent.output.startswith("there is no dead event 7 here; leave --row out for all, or look: SELECT ")
    assert absent.output.count("\n") == 1
    everything = await asyncio.to_thread(CliRunner().invoke, demo, ["redrive-outbox"])
    assert (everything.exit_code, everything.output) == (0, "")


@pytest.mark.parametrize(("command", "option"), [("redrive", "--letter"), ("redrive-outbox", "--row")])
@pytest.mark.parametrize("number", ["9" * 20, "0", "-1", "x"])
def test_a_number_that_no_row_has_is_refused_in_a_line_of_its_own(command: str, option: str, number: str) -> None:
    refused = CliRunner().invoke(demo, [command, option, number])
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}'" in refused.output


async def test_a_redrive_without_a_handler_for_a_letter_leaves_it_and_says_so(database: Database) -> None:
    async with database.transaction() as session:
        for seq in (1, 1, 2):
            await dead_letters.keep(session, "regie_scheduler", received("p", seq), reason="\x00no", attempts=3)
    outcome = await dead_letters.redrive(database, {})
    assert outcome.handled == []
    assert set(outcome.failed.values()) == {"KeyError: 'regie.scheduler.events.v1.PostCreated'"}
