from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from regie_chassis.events.nats_access import STREAMS_USER
from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import AlreadyRunning, DataDirectory
from regie_local.environment import Ports
from regie_local.private_files import open_private
from regie_local.processes import ChildProcess, free_port
from regie_local.traces import TraceServer, TraceStore


def test_a_folder_is_taken_once_and_says_by_whom(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path).lock()
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        DataDirectory(tmp_path).lock()
    os.close(held)
    os.close(DataDirectory(tmp_path).lock())


def test_secrets_are_made_once_completed_later_and_read_by_their_owner_only(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path).secrets(["scheduler"])
    second = DataDirectory(tmp_path).secrets(["scheduler", "publisher"])
    assert second.passwords["scheduler"] == first.passwords["scheduler"]
    assert second.passwords["publisher"] not in {"", first.passwords["scheduler"]}
    assert second.settings == first.settings
    assert first.settings["PUBLISHER_MASTER_KEY"]
    assert second.identity_private_key == first.identity_private_key
    assert "d" not in second.identity_public_key
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    server = TraceServer(TraceStore(), http_port=free_port())
    server.start()
    try:
        with pytest.raises(WrongSetting, match=f"^REGIE_PORT: port {server.http_port} is taken .* REGIE_PORT="):
            Ports(gateway=server.http_port).settle()
    finally:
        server.stop()


def test_a_folder_of_the_version_before_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / ".regie"
    (folder / "logs").mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    (folder / "run.lock").touch()
    log = folder / "logs" / "gateway.log"
    log.write_text("before\n")
    log.chmod(0o644)
    (folder / "secrets.json").write_text(json.dumps({"passwords": {"scheduler": "kept"}}))
    os.close(DataDirectory(folder).lock())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    os.close(open_private(log))
    assert (stat.S_IMODE(log.stat().st_mode), log.read_text()) == (0o600, "before\n")
    made = DataDirectory(folder).secrets(["scheduler"])
    assert made.passwords == {"scheduler": "kept"}
    assert set(made.nats_passwords) == {"scheduler", STREAMS_USER}


@pytest.fixture
def with_data(tmp_path: Path) -> DataDirectory:
    """A folder with secrets and with the mark of PostgreSQL's data."""
    folder = DataDirectory(tmp_path)
    folder.secrets(["scheduler"])
    (folder.postgres / "data").mkdir(parents=True)
    (folder.postgres / "data" / "PG_VERSION").write_text("17\n")
    return folder


def test_data_without_their_secrets_get_no_new_ones(with_data: DataDirectory) -> None:
    file = with_data.path / "secrets.json"
    file.unlink()
    with pytest.raises(WrongSetting, match=r"^REGIE_FOLDER: .*/secrets\.json is missing.*from a backup"):
        with_data.secrets(["scheduler"])
    assert not file.exists()


@pytest.mark.parametrize("lost", ["PUBLISHER_MASTER_KEY", "identity_private_key"])
def test_data_with_a_part_of_their_secrets_get_no_new_ones(with_data: DataDirectory, lost: str) -> None:
    file = with_data.path / "secrets.json"
    stored = json.loads(file.read_text())
    (stored if lost in stored else stored["settings"]).pop(lost)
    file.write_text(json.dumps(stored))
    before = file.read_text()
    with pytest.raises(WrongSetting, match=rf"^REGIE_FOLDER: .*/secrets\.json lacks {lost}, .*from a backup"):
        with_data.secrets(["scheduler"])
    assert file.read_text() == before


def test_a_service_that_is_new_gets_its_passwords_beside_data(with_data: DataDirectory) -> None:
    assert with_data.secrets(["scheduler", "metrics"]).passwords["metrics"]


def test_what_a_child_process_writes_is_its_owners_alone(tmp_path: Path) -> None:
    program = "import pathlib; pathlib.Path('made').mkdir(); pathlib.Path('made/file').write_text('x')"
    child = ChildProcess(
        "writer", [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {program}"], log=tmp_path / "log"
    )
    child.start()
    assert child.reap() == 0
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("made", "made/file", "log")] == [
        0o700,
        0o600,
        0o600,
    ]
