"""A node without processes: what an agent, its torchrun's handler and its ranks would say, over real gRPC.

It obeys desired states the way the real ones do: ranks of an older generation end, the handler comes back to the
rendezvous with a new join and a fresh store once it is told to go, a world that answers its join is taken. Faults
are injected by changing what it says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import grpc

import ryzen_protos
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import node_pb2_grpc

_EVERY_S = 0.1
"""Ten times as often as a real agent: tests wait less."""


class FakeNode:
    """`node` runs `ranks` ranks of one job. `steps`: ranks make a step with every update while their world runs."""

    def __init__(
        self,
        address: str,
        node: str,
        *,
        run_id: str = "job",
        minimum: int = 2,
        maximum: int = 2,
        ranks: int = 2,
        hint: int | None = None,
        progress: bool = True,
        token: str | None = None,
        protocol: int = ryzen_protos.PROTOCOL,
        boot_id: str = "boot",
        options: dict[str, str] | None = None,
    ) -> None:
        self.address, self.node, self.progress, self.token = address, node, progress, token
        self.hello = pb.NodeHello(
            node=node, session="s", boot_id=boot_id, host=f"host-{node}", address="127.0.0.1", protocol=protocol
        )
        if hint is not None:
            self.hello.node_rank = hint
        self.job = pb.ObservedJob(run_id=run_id, user="me", torchrun_pid=1000 + sum(node.encode()))
        self.job.shape.CopyFrom(
            pb.JobShape(min_nodes=minimum, max_nodes=maximum, ranks_per_node=ranks, options=options or {})
        )
        self.desired: pb.DesiredState | None = None
        self.steps = self.stepping = True
        self.record = Record()  # every rank's: they go in step
        self.seq = 0
        self.answered = 0
        self.pid = 100
        self.events: list[pb.NodeEvent] = []
        self.conditions: pb.Conditions | None = None
        self.error: grpc.aio.AioRpcError | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._goodbye = False
        self._join()

    # ------------------------------------------------------------ what a test does to it

    def start(self) -> FakeNode:
        self._task = asyncio.create_task(self._run())
        return self

    async def cut(self) -> None:
        """The stream breaks, as when the agent or its node dies."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def leave(self) -> None:
        self._goodbye = True
        self._changed.set()
        if self._task is not None:
            await self._task

    def fail(self, local_rank: int, exit_code: int | None = 1, error: tuple[str, str] | None = None) -> None:
        """A rank exits."""
        rank = self.job.ranks[local_rank]
        rank.life = pb.ObservedRank.EXITED
        if exit_code is not None:
            rank.exit_code = exit_code
        if error is not None:
            rank.error_type, rank.error_message = error
        self._changed.set()

    def finish(self) -> None:
        for index in range(len(self.job.ranks)):
            self.fail(index, 0)

    def freeze(self, local_rank: int) -> None:
        """A rank is stopped; as everywhere in a synchronous job nobody advances from then on."""
        rank = self.job.ranks[local_rank]
        rank.process_state = "T"
        self.stepping = False
        self._changed.set()

    def say(self) -> None:
        self._changed.set()

    # ------------------------------------------------------------ what it sees

    @property
    def wanted(self) -> pb.DesiredJob | None:
        for job in self.desired.jobs if self.desired is not None else ():
            if job.run_id == self.job.run_id:
                return job
        return None

    @property
    def generation(self) -> int:
        return int(self.job.generation) if self.job.handler == pb.ObservedJob.RUNNING else 0

    @property
    def dismissed(self) -> int | None:
        job = self.wanted
        return job.exit_code if job is not None and job.place == pb.DesiredJob.DISMISSED else None

    # ------------------------------------------------------------ how it obeys

    def _join(self) -> None:
        self.job.handler = pb.ObservedJob.JOINING
        self.job.join_id += 1
        self.job.store.CopyFrom(pb.Endpoint(host="127.0.0.1", port=20000 + self.job.join_id))

    def _obey(self, state: pb.DesiredState) -> None:
        self.desired = state
        job = self.wanted
        if job is None:
            return
        self.answered = max(self.answered, job.inquiry)
        self.job.seen_generation = max(self.job.seen_generation, job.generation)
        self._kill_older(job.generation)
        if job.place == pb.DesiredJob.DISMISSED:
            return
        if job.HasField("world"):
            self._take(job.world)
        if self.job.handler == pb.ObservedJob.RUNNING and job.go and job.generation > self.job.generation:
            self._join()

    def _kill_older(self, generation: int) -> None:
        for rank in self.job.ranks:
            if rank.generation < generation and rank.life != pb.ObservedRank.EXITED:
                rank.life = pb.ObservedRank.EXITED
                rank.exit_code = -9
                rank.killed_by_agent = True

    def _take(self, world: pb.World) -> None:
        answers = world.join_id == self.job.join_id and world.generation > self.job.generation
        if self.job.handler != pb.ObservedJob.JOINING or not answers:
            return
        self.job.handler = pb.ObservedJob.RUNNING
        self.job.generation = world.generation
        self.job.ClearField("store")
        del self.job.ranks[:]
        self.record = Record()
        self.stepping = self.steps
        count = self.job.shape.ranks_per_node
        for local in range(count):
            self.pid += 1
            rank = world.group_rank * count + local
            self.job.ranks.append(
                pb.ObservedRank(
                    rank=rank,
                    local_rank=local,
                    pid=self.pid,
                    generation=world.generation,
                    life=pb.ObservedRank.ALIVE,
                    process_state="R",
                    attached=self.progress,
                )
            )

    def _step(self) -> None:
        if self.job.handler == pb.ObservedJob.JOINING or not self.progress:
            return
        alive = all(rank.life == pb.ObservedRank.ALIVE for rank in self.job.ranks)
        step, quiet_s = self.record.step, self.record.quiet_s
        if self.stepping and alive:
            self.record = Record(step + 1, steps_done=step + 1)
        else:
            self.record = self.record._replace(quiet_s=quiet_s + _EVERY_S)
        self.job.beats.CopyFrom(beat_columns.pack([self.record] * len(self.job.ranks)))

    async def _run(self) -> None:
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else None
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = node_pb2_grpc.NodeServiceStub(channel)
            call = stub.Attach(self._updates(), metadata=metadata)
            try:
                async for state in call:
                    self._obey(state)
                    self._changed.set()
            except grpc.aio.AioRpcError as error:
                self.error = error

    async def _updates(self) -> AsyncIterator[pb.NodeUpdate]:
        first = True
        while True:
            self.seq += 1
            self._step()
            update = pb.NodeUpdate(seq=self.seq, jobs=[self.job], answered_inquiry=self.answered, events=self.events)
            if first:
                update.hello.CopyFrom(self.hello)
                first = False
            if self.conditions is not None:
                update.conditions.CopyFrom(self.conditions)
            if self._goodbye:
                update.goodbye.reason = "drained"
            yield update
            if self._goodbye:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _EVERY_S)
            self._changed.clear()


async def until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail with its description."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(0.01)
