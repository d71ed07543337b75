"""A short life of a core, logged as a coordinator logs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import NodeGone, OperatorEvict, OperatorReadmit
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.inputs import entries, frames, reader
from ryzen_coordinator.inputs.entries import Call, Cause, Update
from ryzen_coordinator.inputs.writer import InputLog
from ryzen_coordinator.server import convert
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb

UNIX_S = 1_700_000_000.0


class Recorder:
    """A core and its log; `flush_every`: calls a frame."""

    def __init__(
        self, folder: Path, session: str = "s", *, start_s: float = 0.0, bytes_max: int = 1 << 24, flush_every: int = 3
    ) -> None:
        self.core = Core(CoreSettings(), (), start_s, UNIX_S)
        self.log = InputLog(folder, bytes_max, session)
        self.log.start(CoreSettings(), [], start_s, UNIX_S)
        self.flush_every, self.calls, self.now_s = flush_every, 0, 0.0

    def call(self, cause: Cause, now_s: float) -> None:
        self.now_s = now_s
        event = convert.report(*cause) if isinstance(cause, Update) else cause
        effects = self.core.tick(now_s) if event is None else self.core.step(event, now_s)
        self.log.add(Call(now_s, cause, effects), self.core)
        self.calls += 1
        if self.calls % self.flush_every == 0:
            self.log.flush()

    def live(self, seconds: int = 3, since_s: float = 0.0) -> None:
        """Two nodes form a world and step; one is killed, one is evicted, one goes."""
        if self.calls:
            self.call(OperatorReadmit("b"), since_s)
        for second in range(seconds):
            now_s = since_s + second
            for node in ("a", "b"):
                self.call(update(node, int(now_s) + 1), now_s + 0.01)
            for number in range(20):
                self.call(None, now_s + 0.02 + number / 20.5)
        self.call(OperatorEvict("b", "dust"), self.now_s + 0.01)
        self.call(NodeGone("a", 1), self.now_s + 0.01)


def update(node: str, seq: int, **fields: Any) -> Update:
    """What a node of one rank says at its `seq`-th time: it waits for a world, runs, fails."""
    message = pb.NodeUpdate(seq=seq, sent_unix_ns=int(UNIX_S * 1e9) + seq)
    if seq == 1:
        message.hello.CopyFrom(pb.NodeHello(node=node, host=f"host-{node}", session="s"))
    job = message.jobs.add(run_id="job", user="me", join_id=1, torchrun_pid=7, **fields)
    job.shape.CopyFrom(pb.JobShape(min_nodes=2, max_nodes=2, ranks_per_node=1))
    if seq == 1:
        job.handler = pb.ObservedJob.JOINING
        job.store.CopyFrom(pb.Endpoint(host=node, port=1))
    else:
        job.handler, job.generation = pb.ObservedJob.RUNNING, 1
        rank = job.ranks.add(rank=int(node == "b"), pid=50, generation=1, life=pb.ObservedRank.ALIVE, attached=True)
        job.beats.CopyFrom(beat_columns.pack([Record(seq, "forward", steps_done=seq)]))
        if seq == 2:
            event = message.events.add(id=5, kind="health", unix_ns=int(UNIX_S * 1e9), run_id="job")
            event.health.CopyFrom(pb.HealthEvent(kind="xid", code=43, device="G0", action="ignore", ranks=[0], count=2))
            message.conditions.all.add(
                name="gpu.hot", device="G0", severity="warning", message="91 C", age_s=2, value=91
            )
        if seq >= 3 and node == "b":
            rank.life, rank.exit_code = pb.ObservedRank.EXITED, -9
    return Update(node, 1 + int(node == "b"), message, int(UNIX_S * 1e9) + seq * 10**9)


def calls(path: Path) -> Iterator[entries.Recorded]:
    """Every call in a segment."""
    segment = reader.read(path)
    assert segment is not None
    for _, _, call in segment.calls():
        yield call


def rewrite(path: Path, change: Any) -> None:
    """Put other payloads into a segment, with good checksums. `change`: list of payloads -> list of payloads."""
    whole = frames.scan(path.read_bytes(), str(path))
    payloads = change([frame.payload for frame in whole.frames])
    path.write_bytes(b"".join(frames.pack(number, payload) for number, payload in enumerate(payloads)))
