"""Loads programs of the repository, which belong to no package, for the tests of their functions."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]


def load_program(path: str) -> Any:
    """Returns the module at a path from the repository's root, executed anew."""
    spec = spec_from_file_location(Path(path).stem, ROOT / path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{path} is no program of this repository")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
