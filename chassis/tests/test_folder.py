from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from regie_chassis.embedded.children import free_port
from regie_chassis.embedded.environment import Ports, PortTaken
from regie_chassis.embedded.folder import AlreadyRunning, Folder
from regie_chassis.embedded.traces import TraceServer, TraceStore


def test_a_folder_is_taken_once_and_says_by_whom(tmp_path: Path) -> None:
    held = Folder(tmp_path).lock()
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        Folder(tmp_path).lock()
    os.close(held)
    os.close(Folder(tmp_path).lock())


def test_secrets_are_made_once_completed_later_and_read_by_their_owner_only(tmp_path: Path) -> None:
    first = Folder(tmp_path).secrets(["scheduler"])
    second = Folder(tmp_path).secrets(["scheduler", "publisher"])
    assert second.passwords["scheduler"] == first.passwords["scheduler"]
    assert second.passwords["publisher"] not in {"", first.passwords["scheduler"]}
    assert second.publisher_master_key == first.publisher_master_key
    assert second.identity_private_key == first.identity_private_key
    assert "d" not in second.identity_public_key
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    server = TraceServer(TraceStore(), http_port=free_port())
    server.start()
    try:
        with pytest.raises(PortTaken, match=f"{server.http_port} is taken .* REGIE_PORT="):
            Ports(gateway=server.http_port).settle()
    finally:
        server.stop()
