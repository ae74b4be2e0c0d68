"""PostgreSQL's programs in a folder whose name needs care."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from regie_local.postgres import copy_programs, postgres_program, quotable
from regie_local.processes import without_root


@pytest.mark.parametrize("name", ["plain", """Büro "ü" 1""", "a\\b", "$HOME"])
def test_initdb_finds_its_server_wherever_it_is_installed(tmp_path: Path, name: str) -> None:
    installed = copy_programs(postgres_program("initdb"), tmp_path / name)
    with quotable(installed) as initdb:
        assert (initdb == installed) is (name == "plain")
        command = without_root([str(initdb), "-D", str(tmp_path / "data"), "--no-sync"])
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert initdb.exists() is (name == "plain")
