"""One node for the tests: a real agent process, fake torchruns, and a coordinator that the test plays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2, node_pb2_grpc

PATIENCE_S = 30.0
HERE = Path(__file__).parent
Phase = node_pb2.ObservedJob
Rank = node_pb2.ObservedRank
Place = node_pb2.DesiredJob


NEWS = (
    "beats", "gaps", "pace", "checkpoint_step", "checkpoint_known", "checks", "self_checks", "skipped", "first_batches",
    "stacks", "groups",
)  # fmt: skip
"""Of a job, what is not as it was told before where only the news are told."""


def complete(job: node_pb2.ObservedJob, seq: int, told: dict[str, tuple[int, node_pb2.ObservedJob]]) -> None:
    """Add to the news of a job what the stream was told of it before."""
    said = node_pb2.ObservedJob.FromString(job.SerializeToString())
    if not job.as_of:
        told[job.run_id] = seq, said
        return
    number, before = told[job.run_id]
    assert job.as_of == number, "the news refer to what this stream was told last"
    job.CopyFrom(before)
    for name in NEWS:
        job.ClearField(name)
    job.MergeFrom(said)


class Coordinator(node_pb2_grpc.NodeServiceServicer):  # type: ignore[misc]
    """Keeps every update of one node; sends what the test wants sent. Runs in a thread of its own."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.updates: list[node_pb2.NodeUpdate] = []
        self.times: list[float] = []
        self.hellos: list[node_pb2.NodeHello] = []
        self.state = node_pb2.DesiredState(version=1, coordinator_session="first", node_phase="healthy")
        self.port = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._wakes: set[asyncio.Event] = set()
        self._server: grpc.aio.Server | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(None), self._loop).result()
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def desire(self, *jobs: node_pb2.DesiredJob, acked: int = 0) -> None:
        """The new desired state, whole."""
        with self._changed:
            self.state.version += 1
            del self.state.jobs[:]
            self.state.jobs.extend(jobs)
            self.state.acked_event_id = max(acked, self.state.acked_event_id)
        self._loop.call_soon_threadsafe(self._send)

    def _send(self) -> None:
        for wake in self._wakes:
            wake.set()

    def wait(self, what: Callable[[node_pb2.NodeUpdate], bool], after: int = 0) -> node_pb2.NodeUpdate:
        """The first update (from index `after`) that fits."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            at = after
            while True:
                for index in range(at, len(self.updates)):
                    if what(self.updates[index]):
                        return self.updates[index]
                at = len(self.updates)
                if not self._changed.wait(deadline - time.monotonic()):
                    last = self.updates[-1] if self.updates else "no update at all"
                    raise AssertionError(f"nothing fits; the last update was {last}")

    def wait_records(
        self, what: Callable[[list[Record]], bool], ranks: int = 2, after: int = 0
    ) -> tuple[node_pb2.ObservedJob, list[Record]]:
        """The first job of which that many ranks have a record each, and these fit."""
        job = self.wait_job(lambda job: len(found := records(job)) == ranks and what(found), after)
        return job, records(job)

    def wait_job(self, what: Callable[[node_pb2.ObservedJob], bool], after: int = 0) -> node_pb2.ObservedJob:
        found = self.wait(lambda update: any(what(job) for job in update.jobs), after)
        return next(job for job in found.jobs if what(job))

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 500)])
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def Attach(  # noqa: N802
        self, requests: AsyncIterator[node_pb2.NodeUpdate], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[node_pb2.DesiredState]:
        if self.refuse is not None:
            await context.abort(*self.refuse)
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the join token is wrong")
        wake = asyncio.Event()
        self._wakes.add(wake)
        reader = asyncio.create_task(self._read(requests, wake))
        try:
            wake.set()
            while True:
                await wake.wait()
                wake.clear()
                if reader.done():
                    return
                yield node_pb2.DesiredState.FromString(self.state.SerializeToString())
        finally:
            reader.cancel()
            self._wakes.discard(wake)

    async def _read(self, requests: AsyncIterator[node_pb2.NodeUpdate], wake: asyncio.Event) -> None:
        told: dict[str, tuple[int, node_pb2.ObservedJob]] = {}
        async for update in requests:
            for job in update.jobs:
                complete(job, update.seq, told)
            with self._changed:
                self.updates.append(update)
                self.times.append(time.monotonic())
                if update.HasField("hello"):
                    self.hellos.append(update.hello)
                self._changed.notify_all()
        wake.set()


class Node:
    """Real processes below one folder."""

    def __init__(self, folder: Path, coordinator: Coordinator) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.coordinator = coordinator
        self.processes: list[subprocess.Popen[str]] = []
        self.environ = {**os.environ, "RYZEN_RUN_DIR": str(self.run_dir)}
        self.user = ""

    def agent(self, *options: str, coordinator: str | None = None) -> subprocess.Popen[str]:
        """With a kernel log of its own: other tests write into the machine's."""
        target = coordinator or f"127.0.0.1:{self.coordinator.port}"
        kernel_log = self.folder / "kernel.log"
        kernel_log.touch()
        command = [sys.executable, "-m", "ryzen_agent.cli", "--node", "node-t", "--coordinator", target]
        command += ["--kmsg-path", str(kernel_log), *options]
        return self.start(command)

    def torchrun(self, run_id: str = "job", ranks: int = 2, **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "fake_torchrun.py"), run_id, str(ranks), str(self.folder)]
        return self.start(command, **environ)

    def start(self, command: list[str], **environ: str) -> subprocess.Popen[str]:
        with (self.folder / f"stderr-{len(self.processes)}").open("w") as errors:
            process = subprocess.Popen(
                command, env={**self.environ, **environ}, stderr=errors, stdout=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def tell(self, rank: int | str, word: str) -> None:
        """Have a rank end: an exit code, `raise`, `freeze`; `g2 1` only in generation 2."""
        aside = self.folder / ".aside"
        aside.write_text(word)
        aside.rename(self.folder / (rank if isinstance(rank, str) else f"rank-{rank}"))

    def errors(self, process: subprocess.Popen[str]) -> str:
        """What it has written to standard error."""
        return (self.folder / f"stderr-{self.processes.index(process)}").read_text()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self._kill_agent()  # one that outlives its supervisor
        # A killed supervisor leaves its torchrun alive on purpose, and that its ranks.
        for pid in _with_environment(f"RYZEN_RUN_DIR={self.run_dir}"):
            _kill_group(pid)

    def _kill_agent(self) -> None:
        try:
            pid = int((self.run_dir / "agent.lock").read_text())
            is_agent = b"ryzen_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return
        if is_agent:
            os.kill(pid, signal.SIGKILL)

    def ranks(self) -> list[int]:
        """Every living process that a torchrun of this node has started."""
        return _with_environment(f"FOLDER={self.folder}")


def _with_environment(entry: str) -> list[int]:
    """Processes that were started with `NAME=value` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if entry.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _kill_group(pid: int) -> None:
    try:
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    except ProcessLookupError:
        return


def records(job: node_pb2.ObservedJob) -> list[Record]:
    """What the pages of its ranks say; ranks without a record are left out."""
    return [each for each in beat_columns.unpack(job.beats, len(job.ranks)) if each is not None]


def wait_until(what: Callable[[], bool]) -> None:
    """For what only a look can tell."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def desired(job: node_pb2.ObservedJob, generation: int, **values: object) -> node_pb2.DesiredJob:
    """A desired job for what was observed; by default a member without a world yet."""
    message = node_pb2.DesiredJob(
        run_id=job.run_id, user=job.user, generation=generation, place=Place.MEMBER, torchrun_pid=job.torchrun_pid
    )
    for name, value in values.items():
        setattr(message, name, value)
    return message


def with_world(job: node_pb2.ObservedJob, generation: int) -> node_pb2.DesiredJob:
    """A world of this node alone that answers its join."""
    message = desired(job, generation, go=True)
    message.world.CopyFrom(
        node_pb2.World(generation=generation, size=1, group_rank=0, store=job.store, uniform=True,
                       join_id=job.join_id)
    )  # fmt: skip
    return message


def running(coordinator: Coordinator, generation: int = 1, ranks: int = 2) -> node_pb2.ObservedJob:
    """Wait for a join, give it its world, wait for the ranks."""
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.generation < generation)
    coordinator.desire(with_world(job, generation))
    return coordinator.wait_job(
        lambda job: len([each for each in job.ranks if each.generation == generation and each.attached]) == ranks
    )
