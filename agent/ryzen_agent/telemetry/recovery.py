"""The agent's part of an incident's trace, seen from the levels that it has anyway.

    ryzen.agent.evidence      while the coordinator asks for evidence
    ryzen.agent.stop          hearing of the generation ──► the last old rank has ended
    ryzen.agent.start         the world is formed ──► the last rank of this node is born
    ryzen.trainer.restore     ──► as the pages say, the last rank begins its first step
    ryzen.trainer.first_step  ──► the last rank has done its first step

One span a node and stage, with the rank that was last: a span a rank would be 32,000 for one incident of 16,384. The
trainer emits nothing itself; the times are those of its beat pages. All clocks here are the node's monotonic one until
a span leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ryzen_agent.job import Job
from ryzen_agent.rank import Rank
from ryzen_protos.v1 import node_pb2
from ryzen_telemetry.records import SpanRecord, Trace, Value, read_traceparent

STAGES = ("stop", "start", "restore", "first_step")


@dataclass(slots=True)
class _Recovery:
    """Of one job: the generation that is to come, and what has been seen of its coming."""

    trace: Trace
    generation: int
    heard_s: float
    formed_s: float | None = None
    ended_s: float | None = None
    last_ended: int | None = None
    told: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Evidence:
    trace: Trace
    since_s: float
    seen: dict[int, str] = field(default_factory=dict)


class Recoveries:
    """`emit`: takes a span; `unix_offset_s`: from the monotonic clock to the wall clock."""

    def __init__(self, emit: Callable[[SpanRecord], None], unix_offset_s: Callable[[], float]) -> None:
        self._emit = emit
        self._unix_offset_s = unix_offset_s
        self._recoveries: dict[str, _Recovery] = {}
        self._evidence: dict[str, _Evidence] = {}

    def trace_of(self, run_id: str, generation: int) -> Trace | None:
        """Of the incident that this generation was left for."""
        found = self._recoveries.get(run_id)
        return found.trace if found is not None and found.generation > generation else None

    def desired(self, job: Job, desired: node_pb2.DesiredJob, now_s: float) -> None:
        """What the coordinator wants of the job, at the moment when that arrives."""
        trace = read_traceparent(desired.traceparent)
        found = self._recoveries.get(job.run_id)
        if found is not None and found.generation == desired.generation:
            if found.formed_s is None and desired.HasField("world"):
                found.formed_s = now_s
        elif trace is not None and desired.generation > job.generation:
            formed_s = now_s if desired.HasField("world") else None
            self._recoveries[job.run_id] = _Recovery(trace, desired.generation, now_s, formed_s)
        probed = self._evidence.get(job.run_id)
        if probed is None and desired.evidence and trace is not None:
            self._evidence[job.run_id] = _Evidence(trace, now_s)
        elif probed is not None and not desired.evidence:
            self._end_evidence(job, now_s)

    def exited(self, run_id: str, rank: int, generation: int, now_s: float) -> None:
        """A rank has ended."""
        found = self._recoveries.get(run_id)
        if found is not None and generation < found.generation:
            found.ended_s, found.last_ended = now_s, rank

    def look(self, job: Job) -> None:
        """Tell what is over by now."""
        if (probed := self._evidence.get(job.run_id)) is not None:
            probed.seen.update({rank.identity.rank: _probed(rank) for rank in job.newest() if rank.probe is not None})
        found = self._recoveries.get(job.run_id)
        if found is None or STAGES[-1] in found.told:
            return
        if "stop" not in found.told and not job.old_alive(found.generation):
            ended_s = found.heard_s if found.ended_s is None else found.ended_s
            self._stage(job, found, "agent", "stop", found.heard_s, ended_s, found.last_ended)
        ranks = [rank for rank in job.ranks if rank.identity.generation == found.generation]
        if found.formed_s is None or not ranks or job.awaits_ranks():
            return
        born = max(ranks, key=lambda rank: rank.born_ns or 0)
        born_s = (born.born_ns or 0) / 1e9
        self._stage(job, found, "agent", "start", found.formed_s, max(born_s, found.formed_s), born.identity.rank)
        firsts = [(rank.identity.rank, first) for rank in ranks if (first := first_step(rank)) is not None]
        if len(firsts) < len(ranks):
            return
        begun = max(firsts, key=lambda each: each[1][0])
        done = max(firsts, key=lambda each: each[1][1])
        self._stage(job, found, "trainer", "restore", born_s, begun[1][0], begun[0])
        self._stage(job, found, "trainer", "first_step", begun[1][0], done[1][1], done[0])

    def forget(self, known: set[str]) -> None:
        """Jobs that are gone."""
        for run_id in self._recoveries.keys() - known:
            del self._recoveries[run_id]
        for run_id in self._evidence.keys() - known:
            del self._evidence[run_id]

    def _stage(
        self, job: Job, found: _Recovery, who: str, stage: str, begin_s: float, end_s: float, last: int | None
    ) -> None:
        if stage in found.told:
            return
        found.told.add(stage)
        attributes = self._attributes(job, found.generation)
        if last is not None:
            attributes["ryzen.rank"] = last
        self._span(f"ryzen.{who}.{stage}", found.trace, begin_s, end_s, attributes)

    def _end_evidence(self, job: Job, now_s: float) -> None:
        found = self._evidence.pop(job.run_id)
        offset_s = self._unix_offset_s()
        events = tuple((now_s + offset_s, text) for _, text in sorted(found.seen.items()))
        self._span(
            "ryzen.agent.evidence", found.trace, found.since_s, now_s, self._attributes(job, job.generation), events
        )

    def _span(
        self, name: str, parent: Trace, begin_s: float, end_s: float, attributes: dict[str, Value],
        events: tuple[tuple[float, str], ...] = (),
    ) -> None:  # fmt: skip
        offset_s = self._unix_offset_s()
        own = parent.child(f"{name}/{attributes.get('ryzen.node')}/{begin_s}")
        self._emit(SpanRecord(name, own, begin_s + offset_s, end_s + offset_s, parent, attributes, events))

    def _attributes(self, job: Job, generation: int) -> dict[str, Value]:
        return {"ryzen.job": job.run_id, "ryzen.user": job.user, "ryzen.generation": generation}


def first_step(rank: Rank) -> tuple[float, float] | None:
    """When the rank's first step of this generation began and ended; None while it has not, or long after it."""
    page = rank.page
    if page is None or page.progress is None or not page.progress.steps_done:
        return None
    first = next(iter(page.reader.steps()), None)
    return None if first is None else (first.started_ns / 1e9, (first.started_ns + first.duration_ns) / 1e9)


def _probed(rank: Rank) -> str:
    probe = rank.probe
    if probe is None or not probe.samples:
        return f"rank {rank.identity.rank}: not answered yet"
    top = probe.stack.text.partition("\n")[0] if probe.stack is not None else "no stack"
    where = ", in a collective" if probe.in_collective else ""
    return f"rank {rank.identity.rank}: {top}, the same for {probe.frozen_s:.1f} s{where}"
