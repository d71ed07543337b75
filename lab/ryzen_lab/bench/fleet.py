"""Thousands of agents of one job, without nodes: the load for `ryzen-lab bench coordinator`.

Run as a module, a process of its own: `python -m ryzen_lab.bench.fleet HOST:PORT NODES RANKS`. Each agent has a
connection and a stream of its own and says what a real one says: hello, then, once all agents are there, the join
of its torchrun, and from then on once a second a progress record for every rank, with the rest of the job now and
then. It obeys as a real one does: ranks of an older generation end, the handler joins again with a fresh store, a
world that answers the join is taken.

Conversation with the parent, a line each: it says `formed` with the seconds once every rank steps; then for each line
`kill` one rank of one node dies, and it says when every agent had been told of the new generation and when every
agent had the new world. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import uvloop

import ryzen_protos
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import node_pb2_grpc

REFRESH_S = 1.0
_CONNECTS_A_SECOND = 100
_WAIT_S_MAX = 90.0
_STEPS_A_SECOND = 10
_START_S = 1.0
"""From the world to the first step of its ranks."""
_GAPS_EVERY = 10
"""Seconds between two tellings of silences that have not changed, as of an agent."""
_WHOLE_EVERY_S = 10.0
_NEWS = ("beats", "gaps", "pace", "checkpoint_step", "checkpoint_known")
_PACE_EVERY = 10
"""Seconds, as agents do it."""
_SECTIONS = ("", "data", "forward", "backward", "optimizer", "checkpoint", "(start)", "(first step)")
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),  # as many connections as agents
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
)


class SimulatedAgent:
    """One node's agent, and all that it would observe."""

    def __init__(self, index: int, nodes: int, ranks: int) -> None:
        self.index = index
        self.heard = 0  # messages from the coordinator
        self.told_s: dict[int, float] = {}  # when each generation was first heard of
        self.world_s: dict[int, float] = {}  # when its world came
        self._update = pb.NodeUpdate()
        self._hello = pb.NodeHello(
            node=f"node-{index}", session="s", boot_id=f"boot-{index}", host=f"host-{index}", address="127.0.0.1",
            node_rank=index, protocol=ryzen_protos.PROTOCOL, version=ryzen_protos.__version__,
        )  # fmt: skip
        self._shape = pb.JobShape(min_nodes=nodes, max_nodes=nodes, ranks_per_node=ranks, max_restarts=1000)
        self.job = pb.ObservedJob()
        self.record = Record()  # every rank's: they go in step
        self._resumed = 0  # the step that the generation begins at
        self._dirty = asyncio.Event()
        self._told, self._told_s, self._told_seq, self._inquiry = pb.ObservedJob(), 0.0, 0, 0

    # ------------------------------------------------------------ what happens to it

    def begin(self) -> None:
        """The user starts torchrun."""
        self.job = self._update.jobs.add(run_id="fleet", user="lab", torchrun_pid=1000 + self.index)
        self.job.shape.CopyFrom(self._shape)
        self._join()

    def kill(self, local_rank: int) -> None:
        """SIGKILL of a rank, seen by the agent at once."""
        rank = self.job.ranks[local_rank]
        rank.life, rank.exit_code = pb.ObservedRank.EXITED, -9
        self._dirty.set()

    @property
    def steps(self) -> bool:
        return self.record.steps_done > 0

    async def run(self, address: str, phase_s: float) -> None:
        async with grpc.aio.insecure_channel(address, options=_CHANNEL) as channel:
            call = node_pb2_grpc.NodeServiceStub(channel).Attach()
            writer = asyncio.create_task(self._write(call, phase_s))
            try:
                while (state := await call.read()) is not grpc.aio.EOF:
                    self._obey(state)
            finally:
                writer.cancel()

    # ------------------------------------------------------------ how it speaks and obeys

    async def _write(self, call: Any, phase_s: float) -> None:
        self._update.hello.CopyFrom(self._hello)
        while True:
            self._dirty.clear()
            self._update.seq += 1
            self._update.sent_unix_ns = time.time_ns()
            self._advance()
            await call.write(self._message())
            first, wait_s = self._update.HasField("hello"), REFRESH_S
            if first:
                self._update.ClearField("hello")
                wait_s = phase_s  # so that agents do not speak in step
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._dirty.wait()

    def _message(self) -> pb.NodeUpdate:
        """As an agent does it: of a job that steps on, only what is new, but all of it every ten seconds."""
        update, job, now = self._update, self.job, time.monotonic()
        told = pb.ObservedJob()
        told.CopyFrom(job)
        for name in _NEWS:
            told.ClearField(name)
        known = self.steps and told == self._told and self._inquiry == update.answered_inquiry
        if update.HasField("hello") or not known or now - self._told_s >= _WHOLE_EVERY_S:
            share = 0.0 if known else self.index % 100 / 100
            self._told, self._told_s, self._told_seq = told, now - share * _WHOLE_EVERY_S, update.seq
            self._inquiry = update.answered_inquiry
            return update
        news = pb.NodeUpdate(
            seq=update.seq, sent_unix_ns=update.sent_unix_ns, answered_inquiry=update.answered_inquiry,
            applied_version=update.applied_version,
        )  # fmt: skip
        slim = news.jobs.add(run_id=job.run_id, user=job.user, as_of=self._told_seq, gaps=job.gaps)
        slim.beats.CopyFrom(job.beats)
        slim.checkpoint_step, slim.checkpoint_known = job.checkpoint_step, job.checkpoint_known
        if job.HasField("pace"):
            slim.pace.CopyFrom(job.pace)
        return news

    def _obey(self, state: pb.DesiredState) -> None:
        now = time.monotonic()
        self.heard += 1
        self._update.applied_version = state.version
        for wanted in state.jobs:
            job = self.job
            if wanted.inquiry > self._update.answered_inquiry:
                self._update.answered_inquiry = wanted.inquiry
                self._dirty.set()
            if wanted.generation > job.seen_generation:
                job.seen_generation = wanted.generation
                self.told_s[wanted.generation] = now
                self._end_ranks(wanted.generation)
            if wanted.HasField("world"):
                self._take(wanted.world, now)
            if job.handler == pb.ObservedJob.RUNNING and wanted.go and wanted.generation > job.generation:
                self._join()

    def _end_ranks(self, generation: int) -> None:
        for rank in self.job.ranks:
            if rank.generation < generation and rank.life != pb.ObservedRank.EXITED:
                rank.life, rank.exit_code, rank.killed_by_agent = pb.ObservedRank.EXITED, -9, True
        self._dirty.set()

    def _join(self) -> None:
        self.job.handler = pb.ObservedJob.JOINING
        self.job.join_id += 1
        self.job.store.CopyFrom(pb.Endpoint(host="127.0.0.1", port=20000 + self.index))
        self._dirty.set()

    def _take(self, world: pb.World, now: float) -> None:
        job = self.job
        if job.handler != pb.ObservedJob.JOINING or world.join_id != job.join_id or world.generation <= job.generation:
            return
        self.world_s[world.generation] = now
        job.handler, job.generation = pb.ObservedJob.RUNNING, world.generation
        job.ClearField("store")
        del job.ranks[:]
        job.ClearField("beats")
        self._resumed = max(self._resumed, self.record.step)
        self.record = Record()
        count = job.shape.ranks_per_node
        for local in range(count):
            job.ranks.add(
                rank=world.group_rank * count + local, local_rank=local, pid=2000 + local, generation=world.generation,
                life=pb.ObservedRank.ALIVE, process_state="R", attached=True,
            )  # fmt: skip
        self._dirty.set()

    def _advance(self) -> None:
        """A second of training in every rank."""
        job, now = self.job, time.monotonic()
        if job.handler != pb.ObservedJob.RUNNING or now - self.world_s.get(job.generation, now) < _START_S:
            return
        if any(each.life != pb.ObservedRank.ALIVE for each in job.ranks):
            return
        del job.gaps[:]
        if int(now) % _GAPS_EVERY == self.index % _GAPS_EVERY:
            job.gaps.extend(pb.SectionGap(section=name, longest_s=0.1) for name in _SECTIONS)
        job.ClearField("pace")
        if int(now) % _PACE_EVERY == self.index % _PACE_EVERY:
            ranks = [each.rank for each in job.ranks]
            job.pace.CopyFrom(
                pb.Pace(
                    generation=job.generation, ranks=ranks, steps=50, step_s=0.05, tokens_per_s=8e4, samples_per_s=80,
                    flops_per_s=4e15, hardware_flops_per_s=4e15, peak_flops=8e15, sections=_SECTIONS,
                    section_s=[0.01] * len(_SECTIONS), loss=[2.0] * len(ranks), learning_rate=1e-4,
                )
            )  # fmt: skip
        step = max(self.record.step, self._resumed) + _STEPS_A_SECOND
        steps = sorted({step & ~63, step & ~7, step})
        self.record = Record(
            step, "backward", 0.01, 0.05, step - self._resumed, 4096 * step, 2.0, 1.0,
            tuple(number for each in steps for number in (each, 3 * each)),
        )  # fmt: skip
        job.beats.CopyFrom(beat_columns.pack([self.record] * len(job.ranks)))
        job.checkpoint_step, job.checkpoint_known = step, True


class Fleet:
    """All agents."""

    def __init__(self, address: str, nodes: int, ranks: int) -> None:
        self._address = address
        self._chance = random.Random(1)  # noqa: S311 - which node dies, no secret
        self.agents = [SimulatedAgent(index, nodes, ranks) for index in range(nodes)]
        self.failure = ""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        tasks = []
        for agent in self.agents:
            tasks.append(asyncio.create_task(agent.run(self._address, self._chance.random() * REFRESH_S)))
            tasks[-1].add_done_callback(self._ended)
            await asyncio.sleep(1 / _CONNECTS_A_SECOND)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.failure:
            return
        error = task.exception()
        why = error.details() if isinstance(error, grpc.aio.AioRpcError) else repr(error) if error else "in good order"
        self.failure = f"a stream has ended: {why}"

    async def until(self, what: str, condition: Callable[[SimulatedAgent], bool]) -> None:
        """Raises SystemExit, in words, where it takes too long or a stream has ended."""
        end = time.monotonic() + _WAIT_S_MAX
        while not all(condition(agent) for agent in self.agents):
            if self.failure or time.monotonic() > end:
                raise SystemExit(self.failure or f"waited {_WAIT_S_MAX:.0f} s for {what}, which never came")
            await asyncio.sleep(0.05)

    async def begin(self) -> float:
        """All torchruns within a second; seconds until all have the world."""
        began = time.monotonic()
        for agent in self.agents:
            agent.begin()
            await asyncio.sleep(REFRESH_S / len(self.agents))
        await self.until("the first world", lambda each: bool(each.world_s))
        await self.until("every rank to step", lambda each: each.steps)
        return max(max(each.world_s.values()) for each in self.agents) - began

    async def kill_one(self) -> dict[str, float]:
        """Seconds until the agents knew of the new generation, and until they had its world."""
        agent = self._chance.choice(self.agents)
        generation = agent.job.generation + 1
        began = time.monotonic()
        agent.kill(self._chance.randrange(len(agent.job.ranks)))
        await self.until("the new generation", lambda each: generation in each.told_s)
        await self.until("the new world", lambda each: generation in each.world_s)
        told = [each.told_s[generation] - began for each in self.agents]
        world = [each.world_s[generation] - began for each in self.agents]
        await self.until("the first new steps", lambda each: each.steps)
        await asyncio.sleep(2 * REFRESH_S)
        return {"told_median_s": statistics.median(told), "told_max_s": max(told), "world_max_s": max(world)}


async def main(address: str, nodes: int, ranks: int) -> None:
    soft_to_hard()
    fleet = Fleet(address, nodes, ranks)
    async with fleet.connected():
        await fleet.until("an answer to every agent", lambda each: each.heard > 0)
        formed_s = await fleet.begin()
        _say(formed_s=formed_s, heard=sum(each.heard for each in fleet.agents))
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(**await fleet.kill_one())


def soft_to_hard() -> None:
    """As many open files as this process may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(**values: float) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201 - its output is its result


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
