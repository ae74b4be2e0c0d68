"""The commands of the documentation, run as they stand there against a whole installation."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import asyncpg
import pytest
from PIL import Image
from regie_local.local_cluster import LocalCluster
from regie_local.services import service_specs
from regie_local.testing.user import Json, User

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN_ONCE = {"channel_id": "CHANNEL", "post_id": "POST"}


def blocks(page: Path, kind: str) -> list[str]:
    return [found["body"] for found in BLOCK.finditer(page.read_text()) if found["kind"] == kind]


def commands(block: str) -> list[str]:
    """The commands of a block, one line each, without mere illustrations such as `CHANNEL=chan_…`."""
    joined: list[str] = []
    for line in block.replace("\\\n", " ").splitlines():
        if joined and joined[-1].count("'") % 2:
            joined[-1] += " " + line
        elif line.strip() and not line.startswith("#"):
            joined.append(line)
    return [command for command in joined if not re.match(r"[A-Z]+=\w+_…", command)]


async def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode in {0, 28}, f"{command}\nended with {process.returncode}: {output.decode()}"
    return output.decode().strip()


async def test_the_walk_through_the_api_works_as_written(
    user: User, installation: LocalCluster, tmp_path: Path
) -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    (tmp_path / ".regie").mkdir()
    (tmp_path / ".regie" / "api-key").write_text(installation.api_key + "\n")
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "picture.png")
    page = [one for block in blocks(ROOT / "docs" / "api.md", "") for one in commands(block)]
    calls = 0
    for written in page:
        command = here(written, installation)
        if assigned := re.match(r"([A-Z]+)=(.*)", command):
            environment[assigned[1]] = await run(f"echo {assigned[2]}", tmp_path, environment)
        elif "…" not in command:  # else it names what only a person has, as a delivery that nobody knows about
            calls += 1
            answer = await ask(command, tmp_path, environment)
            environment |= {SHOWN_ONCE[name]: value for name, value in answer.items() if name in SHOWN_ONCE}
    assert calls >= 14


def here(command: str, installation: LocalCluster) -> str:
    """The command with this installation's ports in place of those of `make run`."""
    addresses = installation.addresses
    command = command.replace("http://127.0.0.1:8000", addresses.gateway)
    return command.replace("http://127.0.0.1:8090", addresses.sandbox)


async def ask(command: str, folder: Path, environment: dict[str, str]) -> Json:
    """Runs a curl command; anything but a success fails. A stream is listened to for two seconds."""
    if " -N " in command:
        await run(f"{command} --max-time 2", folder, environment)
        return {}
    answer = await run(f"{command} -w '\\n%{{http_code}}'", folder, environment)
    body, _, status = answer.rpartition("\n")
    assert status in {"200", "201"}, f"{command}\n{answer}"
    found: Json = json.loads(body)
    return found


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
async def test_the_statements_of_the_documentation_run(page: Path, installation: LocalCluster) -> None:
    for block in blocks(page, "sql"):
        plain = re.sub(r"^--.*$", "", block, flags=re.MULTILINE).replace("…", "")
        for statement in filter(str.strip, plain.split(";")):
            assert await _somewhere(statement, installation), f"no service's database understands: {statement}"


async def _somewhere(statement: str, installation: LocalCluster) -> bool:
    for service in service_specs():
        connection = await asyncpg.connect(installation.database_url(service).replace("+asyncpg", ""))
        try:
            await connection.fetch(statement)
        except asyncpg.UndefinedTableError:
            continue
        finally:
            await connection.close()
        return True
    return False
