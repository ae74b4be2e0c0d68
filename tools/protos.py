"""Generates contracts/regie from proto/: messages, stubs and their types, and the prefixes of ids."""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path) -> None:
    """Writes the generated packages into `target/regie`, replacing the earlier ones."""
    sources = sorted((ROOT / "proto").rglob("*.proto"))
    shutil.rmtree(target / "regie", ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    described = target / "described.binpb"
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={described}",
            "--include_imports",
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
    _write_prefixes(target, described)
    described.unlink()


def _write_prefixes(target: Path, described: Path) -> None:
    """Writes the prefixes of ids that the protos' files give, as constants."""
    pool = DescriptorPool()
    files_ = FileDescriptorSet.FromString(described.read_bytes()).file
    for file in files_:
        pool.Add(file)
    prefix = pool.FindExtensionByName("regie.ids.v1.id_prefix")
    options_type = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileOptions"))
    given = [
        (one.name.upper(), one.prefix)
        for file in files_
        for one in _extension(options_type.FromString(file.options.SerializeToString()), prefix)
    ]
    if len(dict(given)) < len(given) or len({value for _, value in given}) < len(given):
        sys.exit("an id or a prefix is given twice")
    lines = [f'{name} = "{value}"\n' for name, value in sorted(given)]
    text = '"""The prefixes of ids, generated from the option (regie.ids.v1.id_prefix)."""\n\n' + "".join(lines)
    (target / "regie" / "ids" / "v1" / "prefixes.py").write_text(text)


def _extension(options: Any, extension: FieldDescriptor) -> Any:
    return options.Extensions[extension]


if __name__ == "__main__":
    generate(ROOT / "contracts")
