"""A server that reads what agents say and makes nothing of it: what gRPC alone costs `ryzen-lab bench coordinator`.

Run as a module, a process of its own: `python -m ryzen_lab.bench.bare`. It says where it listens, as one line, and
gives every node that joins the one world that makes the ranks of fleet.py step. The same options, event loop and
messages as the coordinator's; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop

from ryzen_coordinator.server.app import OPTIONS
from ryzen_lab.bench.fleet import soft_to_hard
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import node_pb2_grpc


class _Bare(node_pb2_grpc.NodeServiceServicer):
    async def Attach(  # noqa: N802 - the name on the wire
        self, _updates: AsyncIterator[pb.NodeUpdate], context: grpc.aio.ServicerContext
    ) -> None:
        first = await context.read()
        await context.write(pb.DesiredState(version=1, coordinator_session="bare"))
        joined = False
        while (update := await context.read()) is not grpc.aio.EOF:
            if not joined and update.jobs and update.jobs[0].handler == pb.ObservedJob.JOINING:
                joined = True
                await context.write(_world(first.hello.node_rank, update.jobs[0]))


def _world(group_rank: int, job: pb.ObservedJob) -> pb.DesiredState:
    world = pb.World(generation=1, size=job.shape.max_nodes, group_rank=group_rank, join_id=job.join_id)
    wanted = pb.DesiredJob(run_id=job.run_id, user=job.user, generation=1, go=True, world=world)
    return pb.DesiredState(version=2, coordinator_session="bare", jobs=[wanted])


async def main() -> None:
    soft_to_hard()
    server = grpc.aio.server(options=OPTIONS)
    node_pb2_grpc.add_NodeServiceServicer_to_server(_Bare(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - its output is its result
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
