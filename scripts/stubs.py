"""Compile protos/ryzen_protos/v1/*.proto. Usage: stubs.py OUT_DIR

grpcio-tools is pinned to 1.66.2: what it generates loads beside the older protobuf that training images pin.
The stubs are committed, so that an install needs no compiler; a test compares them with the sources.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PINNED = "1.66.2"


def compile_stubs(out: Path) -> None:
    """Write the *_pb2.py, *_pb2.pyi and *_pb2_grpc.py below `out`. Raises RuntimeError."""
    if version("grpcio-tools") != PINNED:
        raise RuntimeError(f"grpcio-tools {version('grpcio-tools')} is installed, {PINNED} is needed")
    sources = sorted(str(path) for path in (ROOT / "protos").glob("ryzen_protos/v1/*.proto"))
    flags = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{ROOT / 'protos'}", *flags, *sources]) != 0:
        raise RuntimeError("protoc failed; its message is above")


if __name__ == "__main__":
    compile_stubs(Path(sys.argv[1]))
