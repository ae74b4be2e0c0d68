"""Generates contracts/regie from proto/: messages, stubs and their types."""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path) -> None:
    """Writes the generated packages into `target/regie`, replacing what is there."""
    sources = sorted((ROOT / "proto").rglob("*.proto"))
    shutil.rmtree(target / "regie", ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet,readable_stubs:{target}",
            f"--mypy_grpc_out=quiet,only_async:{target}",
            *map(str, sources),
        ]
    )
    if status:
        sys.exit("protoc failed; its messages are above")
    # Only what has a service has a gRPC half; the others' are empty.
    for half in target.rglob("*_pb2_grpc.py*"):
        if not half.name.partition(".")[0].endswith("_service_pb2_grpc"):
            half.unlink()


if __name__ == "__main__":
    generate(ROOT / "contracts")
