"""The stream to the coordinator at its end."""

from __future__ import annotations

import asyncio

import pytest

from ryzen_agent.upstream import Upstream
from ryzen_protos.v1 import node_pb2

from .cluster import Coordinator


class LeavesWhileItTells:
    """A node that is asked to stop while its second message is on its way out."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.upstream = Upstream(f"127.0.0.1:{coordinator.port}", None, self)
        self.leaving: asyncio.Task[None] | None = None
        self.asked = asyncio.Event()

    def update(self, first: bool) -> node_pb2.NodeUpdate:
        if not first and self.leaving is None and self.upstream.connected:
            self.leaving = asyncio.create_task(self.upstream.leave("asked to", 10.0))
            self.asked.set()
        return node_pb2.NodeUpdate(hello=node_pb2.NodeHello(node="node-t") if first else None)

    def desired(self, state: node_pb2.DesiredState) -> None:
        pass

    def connection_changed(self) -> None:
        self.upstream.dirty()

    def must_go_on(self) -> bool:
        return False


@pytest.mark.parametrize("trial", range(5))
def test_a_goodbye_arrives_however_the_moment_falls(coordinator: Coordinator, trial: int) -> None:
    async def scenario() -> None:
        node = LeavesWhileItTells(coordinator)
        running = asyncio.create_task(node.upstream.run())
        await node.asked.wait()
        assert node.leaving is not None
        await node.leaving
        running.cancel()

    asyncio.run(scenario())
    assert coordinator.updates[-1].goodbye.reason == "asked to"
