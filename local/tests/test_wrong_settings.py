"""Wrong settings of `make run`, `make demo` and `make shell`: one line each and status 2, before anything starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import Addresses, DataDirectory, folder_from_environment
from regie_local.environment import Ports

TOOLS = Path(__file__).parents[2] / "tools"
FILE = "a file"


def run(tool: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a tool with these settings and no others of Régie's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REGIE_")}
    return subprocess.run(
        [sys.executable, str(TOOLS / tool), *arguments],
        cwd=cwd,
        env=clean | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("value", ["", "abc", "-1", "70000", "65536", "8_000", " 8000", "\u0668", "9" * 5000])
@pytest.mark.parametrize("name", ["REGIE_PORT", "REGIE_SANDBOX_PORT"])
def test_a_wrong_port_is_named_and_its_value_is_not_repeated(name: str, value: str) -> None:
    with pytest.raises(WrongSetting) as refused:
        Ports.from_environment({name: value})
    assert str(refused.value) == f"{name}: give a port from 1 to 65535, or 0 for a free one"


def test_ports_are_those_of_the_settings_and_else_the_listed_ones() -> None:
    assert Ports.from_environment({}) == Ports(8000, 8090)
    assert Ports.from_environment({"REGIE_PORT": "65535", "REGIE_SANDBOX_PORT": "0"}) == Ports(65535, 0)
    assert Ports.from_environment({"REGIE_PORT": "0", "REGIE_SANDBOX_PORT": "0"}) == Ports(0, 0)


@pytest.mark.parametrize(
    "settings",
    [{"REGIE_PORT": "8090"}, {"REGIE_SANDBOX_PORT": "8000"}, {"REGIE_PORT": "8001", "REGIE_SANDBOX_PORT": "8001"}],
)
def test_one_port_for_two_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(WrongSetting, match="REGIE_SANDBOX_PORT: this is the port of the REST API, too"):
        Ports.from_environment(settings)


def test_a_port_that_this_user_may_not_have_is_refused() -> None:
    def check(port: int) -> None:
        if port == 80:
            raise PermissionError(13, "Permission denied")

    with pytest.raises(WrongSetting, match=r"REGIE_SANDBOX_PORT: .*Permission denied.* above 1023"):
        Ports(8000, 80).settle(check=check)


def test_an_empty_folder_is_refused_and_does_not_mean_the_working_directory() -> None:
    assert folder_from_environment({}) == Path(".regie")
    with pytest.raises(WrongSetting, match="REGIE_FOLDER: this is empty"):
        folder_from_environment({"REGIE_FOLDER": ""})


@pytest.mark.parametrize("folder", [FILE, f"{FILE}/below", "/proc/regie", "x" * 300])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(WrongSetting, match="REGIE_FOLDER: no data can be kept there"):
        DataDirectory(tmp_path / folder).check()


def test_a_folder_with_other_files_is_refused_and_stays_open_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    (folder / "networks").mkdir(parents=True)
    DataDirectory(folder).check()
    (folder / "run.lock").unlink()
    folder.chmod(0o755)
    (folder / FILE).touch()
    with pytest.raises(WrongSetting, match="REGIE_FOLDER: this folder holds other files; give a new or an empty one"):
        DataDirectory(folder).check()
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("folder", ["line\nbreak", "bell\a", "next\u0085line", "byte\udcff"])
def test_a_folder_whose_name_no_line_can_show_is_refused(folder: str) -> None:
    with pytest.raises(WrongSetting, match=r"^REGIE_FOLDER: its path has a control character"):
        folder_from_environment({"REGIE_FOLDER": f"/srv/{folder}"})


READERS = {
    "secrets.json": lambda folder: folder.secrets(["scheduler"]),
    "addresses.json": DataDirectory.read_addresses,
    "environments.json": DataDirectory.read_environments,
}


@pytest.mark.parametrize("content", [b"", b"x{", b"[1]", b"\xff", b'{"passwords": [1], "pid": "x", "gateway": 1}'])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, name: str, content: bytes) -> None:
    folder = running(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        WrongSetting, match=rf"^REGIE_FOLDER: {tmp_path / name} is damaged; (put it back|end what runs)"
    ):
        READERS[name](folder)


@pytest.mark.parametrize("name", [*READERS, "api-key"])
def test_a_file_that_cannot_be_read_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    folder = running(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(WrongSetting, match=rf"^REGIE_FOLDER: {tmp_path / name} cannot be used \(.*\); make it"):
        {**READERS, "api-key": DataDirectory.read_api_key}[name](folder)
    folder.forget_addresses()


def test_a_damaged_key_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_bytes(b"\xff")
    with pytest.raises(WrongSetting, match=r"^REGIE_FOLDER: .*/api-key is damaged; remove it"):
        DataDirectory(tmp_path).read_api_key()


def running(path: Path) -> DataDirectory:
    """Returns a folder in which this process seems to run an installation."""
    folder = DataDirectory(path)
    at = Addresses(os.getpid(), gateway="", sandbox="", traces="", otlp="", nats="", postgres_port=1, rpc={})
    folder.write_addresses(at)
    folder.write_environments({"gateway": {}})
    assert (folder.read_addresses(), folder.read_environments()) == (at, {"gateway": {}})
    return folder


@pytest.mark.parametrize(("tool", "file"), [("run.py", "secrets.json"), ("run.py", "api-key"), ("demo.py", "logs")])
def test_a_folder_that_cannot_be_used_in_part_ends_the_tools_with_one_line(
    tmp_path: Path, tool: str, file: str
) -> None:
    DataDirectory(tmp_path / ".regie").check()
    if file == "logs":
        (tmp_path / ".regie" / file).touch()
    else:
        (tmp_path / ".regie" / file).mkdir()
    ended = run(tool, cwd=tmp_path, REGIE_PORT="0", REGIE_SANDBOX_PORT="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"setting REGIE_FOLDER: {tmp_path / '.regie' / file} cannot be used")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("tool", "arguments"), [("demo.py", []), ("shell.py", ["gateway"])])
def test_damaged_addresses_end_the_tools_with_one_line(tmp_path: Path, tool: str, arguments: list[str]) -> None:
    DataDirectory(tmp_path / ".regie").check()
    (tmp_path / ".regie" / "addresses.json").write_text("x{")
    ended = run(tool, *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("setting REGIE_FOLDER: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("tool", ["run.py", "demo.py"])
def test_a_taken_port_ends_the_tools_with_one_line(tmp_path: Path, tool: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(tool, cwd=tmp_path, REGIE_PORT=str(port), REGIE_SANDBOX_PORT="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"setting REGIE_PORT: port {port} is taken by another program; give another")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("REGIE_PORT", "abc"), ("REGIE_PORT", "8090"), ("REGIE_FOLDER", ""), ("REGIE_FOLDER", FILE)],
)
@pytest.mark.parametrize("tool", ["run.py", "demo.py"])
def test_the_tools_end_with_one_line_and_status_2(tmp_path: Path, tool: str, name: str, value: str) -> None:
    (tmp_path / FILE).touch()
    ended = run(tool, cwd=tmp_path, **{name: value})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("setting REGIE_")
    assert ended.stderr.count("\n") == 1


def test_a_shell_beside_nothing_says_how_to_get_there(tmp_path: Path) -> None:
    ended = run("shell.py", "gateway", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (
        1,
        "nothing runs in this folder; start `make run` first, in another terminal\n",
    )
    ended = run("shell.py", "gatway", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.split(":")[0]) == (2, "setting SERVICE")
