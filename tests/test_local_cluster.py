"""The installation of `make run`, as processes."""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from PIL import Image
from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import AlreadyRunning
from regie_local.environment import Ports
from regie_local.local_cluster import LocalCluster
from regie_local.processes import check_bindable, free_port
from regie_local.supervisor import Supervisor
from regie_local.testing.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("local cluster")]
REPLICAS = {"scheduler": 2}
SHELL = Path(__file__).parents[1] / "tools" / "shell.py"
ODD_NAME = """Büro "ü" 1 %41 $HOME \\ '"""
# Serves as a gateway does, unless the key is not there yet.
GATEWAY_AFTER_KEY = """
import pathlib, runpy, sys
assert pathlib.Path(sys.argv[1]).read_text().startswith("regie_"), "no key yet"
sys.argv[1:] = ["serve"]
runpy.run_module("regie_gateway", run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[LocalCluster]:
    with LocalCluster(place, replicas=REPLICAS, fsync=False) as running:
        yield running


def status_of(cluster: LocalCluster, key: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(cluster.addresses.gateway).netloc, timeout=10)
    try:
        connection.request("GET", "/v1/posts", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_first_key_opens_the_gateway(cluster: LocalCluster) -> None:
    assert status_of(cluster, cluster.api_key) == 200
    assert status_of(cluster, cluster.api_key[:-1] + "!") == 401


def test_the_folder_is_in_use_for_everybody_else(cluster: LocalCluster, place: Path) -> None:
    with pytest.raises(AlreadyRunning):
        LocalCluster(place).start()
    assert cluster.is_ready("gateway")


def test_calls_go_to_the_second_scheduler_when_the_first_is_killed(cluster: LocalCluster) -> None:
    cluster.kill("scheduler")
    assert not cluster.is_ready("scheduler")
    assert status_of(cluster, cluster.api_key) == 200
    cluster.restart("scheduler")
    assert cluster.is_ready("scheduler")


async def test_the_servers_come_back_on_their_ports_after_a_crash(cluster: LocalCluster) -> None:
    cluster.restart_nats(kill=True)
    cluster.restart_postgres(kill=True)

    async def answers() -> bool:
        # A service may meet the last of its lost connections, which is a 503 once.
        return await asyncio.to_thread(status_of, cluster, cluster.api_key) == 200

    assert await until(answers, what="the gateway's answer after the crash")


async def test_a_crashed_process_is_started_again_and_told_about(cluster: LocalCluster) -> None:
    reported: list[str] = []
    stopping = threading.Event()
    metrics = cluster.process("metrics")
    killed = metrics.pid
    psutil.Process(killed).kill()
    watching = threading.Thread(target=Supervisor(cluster, report=reported.append).run, args=[stopping])
    watching.start()
    try:

        async def another() -> bool:
            return metrics.running and metrics.pid != killed

        await until(another, what="another process")
        await asyncio.to_thread(cluster.wait_ready, "metrics")
    finally:
        stopping.set()
        watching.join()
    assert "metrics ended (-9)" in reported[0]


def test_nothing_is_left_and_the_data_are_found_again(place: Path, cluster: LocalCluster) -> None:
    key = cluster.api_key
    children = psutil.Process().children(recursive=True)
    cluster.stop()
    assert not [child for child in children if child.is_running() and str(place) in " ".join(child.cmdline())]
    with LocalCluster(place, fsync=False) as again:
        assert again.api_key == key
        assert status_of(again, key) == 200


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """An installation in a folder whose name needs care wherever it is written."""
    folder = tmp_path_factory.mktemp("odd") / ODD_NAME
    programs = {"gateway": ["-c", GATEWAY_AFTER_KEY, str(folder / "api-key")]}
    with LocalCluster(folder, services=("publisher", "gateway"), programs=programs, fsync=False) as running:
        yield running


def beside(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as `make shell` does."""
    return subprocess.run(
        [sys.executable, str(SHELL), *arguments],
        env=os.environ | {"REGIE_FOLDER": str(cluster.folder.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_folder_may_have_any_name_and_the_key_is_there_before_the_gateway(odd: LocalCluster) -> None:
    connection = http.client.HTTPConnection(urlsplit(odd.addresses.gateway).netloc, timeout=10)
    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    connection.request("POST", "/v1/media", picture.getvalue(), headers={"Authorization": f"Bearer {odd.api_key}"})
    assert connection.getresponse().status == 201
    connection.close()
    assert [path.name for path in odd.folder.path.parent.iterdir()] == [ODD_NAME]
    assert [path for path in (odd.folder.path / "media").rglob("*") if path.is_file()]
    assert (odd.folder.path / "nats" / "jetstream" / "jetstream").is_dir()


def test_commands_run_beside_an_installation(odd: LocalCluster) -> None:
    environments = odd.folder.path / "environments.json"
    assert stat.S_IMODE(environments.stat().st_mode) == 0o600
    made = beside(odd, "gateway", "python", "-m", "regie_gateway", "bootstrap", "--workspace", "second")
    assert made.returncode == 0, made.stderr
    assert status_of(odd, made.stdout.strip()) == 503  # let in; nobody answers behind
    asked = beside(odd, "publisher", "psql", "-At", "-c", "SELECT current_database(), current_user")
    assert asked.stdout == "publisher|publisher\n"
    absent = beside(odd, "publisher", "python", "-m", "regie_publisher", "redrive", "--letter", "7")
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    assert absent.stderr.startswith("there is no dead letter 7 here; leave --letter out for all, or look: SELECT ")


def test_nothing_is_told_of_an_installation_that_has_stopped(odd: LocalCluster) -> None:
    odd.stop()
    assert not (odd.folder.path / "environments.json").exists()
    assert beside(odd, "gateway", "true").returncode == 1


def test_a_services_wrong_setting_is_told_as_the_tools_own(tmp_path: Path) -> None:
    wrong = {"gateway": {"GATEWAY_RATE_PER_SECOND": "abc", "GATEWAY_RATE_BURST": "abc"}}
    cluster = LocalCluster(tmp_path, services=("gateway",), env=wrong, fsync=False)
    with pytest.raises(WrongSetting) as refused:
        cluster.start()
    lines = f"setting {refused.value}".splitlines()
    assert [line.split(":")[0] for line in lines] == [f"setting {name}" for name in wrong["gateway"]]


@pytest.mark.parametrize(("setting", "name"), [("REGIE_PORT", "gateway"), ("REGIE_SANDBOX_PORT", "sandbox")])
def test_a_port_that_is_taken_after_the_check_is_told_with_its_setting(tmp_path: Path, setting: str, name: str) -> None:
    port = free_port()

    class TakenLater(Ports):
        def settle(self, *, check: Callable[[int], None] = check_bindable) -> Ports:
            settled = super().settle(check=check)
            others.enter_context(socket.create_server(("127.0.0.1", port)))
            return settled

    cluster = LocalCluster(tmp_path, services=("gateway",), ports=TakenLater(**{name: port}), fsync=False)
    message = f"^{setting}: port {port} is taken by another program; give another"
    with ExitStack() as others, pytest.raises(WrongSetting, match=message):
        cluster.start()


def test_a_lost_key_file_is_replaced_by_a_new_key_for_the_same_data(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, services=("gateway",), fsync=False) as running:
        lost = running.api_key
    running.folder.api_key_file.unlink()
    with LocalCluster(tmp_path, services=("gateway",), fsync=False) as again:
        assert again.api_key != lost
        # Nobody answers behind: a key that is not accepted would not come that far.
        assert [status_of(again, key) for key in (again.api_key, lost)] == [503, 503]
