"""A real torchrun whose node's agent is played by the test."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc

from ryzen_protos import LOCAL_PROTOCOL
from ryzen_protos.v1 import local_pb2, local_pb2_grpc, node_pb2

from .launching import WORKER

PATIENCE_S = 60.0
Update = local_pb2.HandlerUpdate
Phase = node_pb2.ObservedJob
Place = node_pb2.DesiredJob

RANK = """
import os, signal, sys, time
with open(os.environ["OUT"] + "/" + os.environ["RYZEN_GENERATION"] + "-" + os.environ["RANK"], "w") as out:
    out.write(" ".join([str(os.getpid())] + [os.environ[key] for key in ("GROUP_RANK", "WORLD_SIZE", "RYZEN_NODE")]))
while not os.path.exists(os.environ["OUT"] + "/finish"):
    time.sleep(0.02)
"""


class PlayedAgent(local_pb2_grpc.LocalAgentServicer):
    """One node's agent: keeps the newest update and says what the test wants said."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(mode=0o700)
        self.socket = run_dir / "agent.sock"
        self.updates: queue.Queue[Update] = queue.Queue()
        self.orders: queue.Queue[local_pb2.HandlerOrder | None] = queue.Queue()
        self.last = Update()
        self.server: grpc.Server | None = None
        self.refusal = ""

    def start(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        local_pb2_grpc.add_LocalAgentServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{self.socket}")
        self.server.start()

    def die(self) -> None:
        assert self.server is not None
        self.orders.put(None)
        self.server.stop(grace=None).wait()

    def Rendezvous(self, requests: Iterator[Update], context: grpc.ServicerContext) -> Iterator[local_pb2.HandlerOrder]:  # noqa: N802
        if self.refusal:
            assert next(requests).protocol == LOCAL_PROTOCOL
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        thread_pool = futures.ThreadPoolExecutor(1)
        thread_pool.submit(self._receive, requests)
        yield local_pb2.HandlerOrder(address="127.0.0.1", node="node-x")
        while context.is_active() and (order := self.orders.get()) is not None:
            yield order

    def _receive(self, requests: Iterator[Update]) -> None:
        try:
            for update in requests:
                self.updates.put(update)
        except grpc.RpcError:
            return

    def wait(self, what: Callable[[Update], bool]) -> Update:
        deadline = time.monotonic() + PATIENCE_S
        while not what(self.last):
            self.last = self.updates.get(timeout=max(0.01, deadline - time.monotonic()))
        return self.last


class Node:
    """A torchrun with its played agent."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.run_dir = folder / name
        self.agent = PlayedAgent(self.run_dir)
        self.torchrun: subprocess.Popen[str] | None = None

    def start(
        self, *extra: str, run_id: str = "job", nodes: str = "2", script: str = RANK, forked: bool = False, **env: str
    ) -> None:
        """`extra`: options of torchrun. `forked`: the ranks, by a nursery."""
        path = self.folder / "rank.py"
        path.write_text(script)
        command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=ryzen", f"--rdzv-id={run_id}"]
        command += [f"--nnodes={nodes}", "--nproc-per-node=1", "--monitor-interval=0.05", *extra]
        command += ["--no-python", WORKER] if forked else []
        command += [str(path)]
        environment = {**os.environ, "RYZEN_RUN_DIR": str(self.run_dir), "OUT": str(self.folder), **env}
        self.torchrun = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def end(self) -> tuple[int, str]:
        assert self.torchrun is not None
        _, errors = self.torchrun.communicate(timeout=PATIENCE_S)
        return self.torchrun.returncode, errors


def two_nodes(folder: Path) -> Iterator[list[Node]]:
    """What a fixture yields: their agents run, no torchrun yet; all is ended afterwards."""
    made = [Node(folder, "a"), Node(folder, "b")]
    for each in made:
        each.agent.start()
    yield made
    (folder / "finish").touch()
    for each in made:
        each.agent.die()
        if each.torchrun is not None and each.torchrun.poll() is None:
            os.killpg(each.torchrun.pid, signal.SIGTERM)
            each.torchrun.communicate()


def world(generation: int, order: list[Node], host: int = 0) -> None:
    """Wait for the join of each node, then give all of them this world; `host`: whose store it uses."""
    joins = [each.agent.wait(lambda update: update.phase == Phase.JOINING and update.store.port > 0) for each in order]
    for rank, each in enumerate(order):
        each.agent.orders.put(
            local_pb2.HandlerOrder(
                generation=generation,
                place=Place.MEMBER,
                node=each.name,
                world=node_pb2.World(
                    generation=generation,
                    size=len(order),
                    group_rank=rank,
                    store=joins[host].store,
                    uniform=True,
                    join_id=joins[rank].join_id,
                ),
            )
        )


def rank_report(folder: Path, generation: int, rank: int) -> list[str]:
    """pid, group rank, world size and node of a rank, once it has written them."""
    path = folder / f"{generation}-{rank}"
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"no rank {rank} of generation {generation}"
        time.sleep(0.02)
    return path.read_text().split()
