"""A sample does not fail for what else the agent's process does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import uvloop

from ryzen_agent import stacks
from ryzen_protos.v1 import node_pb2

from .cluster import Coordinator

SAMPLES, AT_ONCE = 40, 4


@contextlib.asynccontextmanager
async def chat(port: int) -> AsyncIterator[None]:
    """gRPC as busy as it can be."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/ryzen.v1.NodeService/Attach")()

        async def talk() -> None:
            while True:
                await call.write(node_pb2.NodeUpdate(seq=1).SerializeToString())
                await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk())
        try:
            yield
        finally:
            talking.cancel()


def test_every_sample_succeeds_while_grpc_is_busy(coordinator: Coordinator, tmp_path: Path) -> None:
    """It would start threads of its own in a forked child, and some of those would crash."""
    told = json.dumps([{"os_thread_id": 7, "frames": [{"name": "step", "filename": "train.py", "line": 1}]}])
    program = tmp_path / "py-spy"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o700)

    async def scenario() -> list[stacks.Stack | None]:
        found = []
        async with chat(coordinator.port):
            for _ in range(SAMPLES):
                found += await asyncio.gather(*(stacks.by_py_spy(os.fspath(program), 7) for _ in range(AT_ONCE)))
        return found

    found = uvloop.run(scenario())
    assert len(found) == SAMPLES * AT_ONCE
    assert None not in found
