"""Between the messages on the wire and the core's own types. No decision, no default that the core does not know.

A node's word is not trusted further than its own job: numbers are brought into the range that the core computes in,
texts are one printable line of bounded length (they end up in logs, the journal and operators' terminals).
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TypeAlias

from ryzen_coordinator.core.effects import DesiredJob, DesiredNode
from ryzen_coordinator.core.events import (
    NO_BEATS,
    Beats,
    ChecksSeen,
    Collective,
    Handler,
    Hello,
    JobNews,
    JobSeen,
    Life,
    NodeReport,
    Probe,
    RankSeen,
    Shape,
)
from ryzen_coordinator.server import convert_checks, convert_health, convert_pace
from ryzen_protos.v1 import node_pb2 as pb

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Agent and handler refuse any other in words; here it only must not get into the journal or a terminal."""

RANKS_MAX = 1 << 18
NODES_MAX = 1 << 17
SECTIONS_MAX = 64
"""Of one node: as many names as a beat page holds."""
STACKS_MAX, STACK_CHARS = 64, 6000
GROUPS_MAX, GROUP_RANKS_MAX = 256, 4096
COLLECTIVES_MAX, MARKS_MAX, SKIPS_MAX = 64, 64, 16
CHECKS_MAX, CHECK_GROUPS_MAX = 8, 1 << 16
"""Of one rank."""

_KNOWN_BYTES, _KNOWN_BYTES_MAX = 64, 4096
"""Of a rank and of a node's ranks: with more to say (an error, a probe) they say something else the next time."""

KnownMarks: TypeAlias = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""Places in the node's ranks, and (step, collectives begun) of each step."""

_COUNT_MAX = 1 << 62  # the core's arrays are of 64-bit integers with a sign
_SECONDS_MAX = 1e9

_HANDLERS: dict[int, Handler] = {
    pb.ObservedJob.ABSENT: "absent",
    pb.ObservedJob.JOINING: "joining",
    pb.ObservedJob.RUNNING: "running",
    pb.ObservedJob.CLOSED: "closed",
}
_LIVES: dict[int, Life] = {
    pb.ObservedRank.ALIVE: "alive",
    pb.ObservedRank.FAILING: "failing",
    pb.ObservedRank.EXITED: "exited",
}
_PLACES = {
    "unspecified": pb.DesiredJob.PLACE_UNSPECIFIED,
    "member": pb.DesiredJob.MEMBER,
    "parked": pb.DesiredJob.PARKED,
    "dismissed": pb.DesiredJob.DISMISSED,
}


def report(node: str, stream: int, update: pb.NodeUpdate, now_unix_ns: int) -> NodeReport:
    """A report to the core. `now_unix_ns`: our wall clock at its arrival, for the clock offset."""
    return NodeReport(
        node=node,
        stream=stream,
        seq=update.seq,
        hello=hello(update.hello) if update.HasField("hello") else None,
        jobs=tuple([_job(job) for job in update.jobs if _is_run_id(job.run_id)]),
        answered_inquiry=update.answered_inquiry,
        clock_offset_s=(update.sent_unix_ns - now_unix_ns) / 1e9 if update.sent_unix_ns else 0.0,
        health=tuple(convert_health.events(update.events)) if update.events else (),
        conditions=convert_health.conditions(update.conditions) if update.HasField("conditions") else None,
    )


@lru_cache(maxsize=1024)
def _is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def hello(message: pb.NodeHello) -> Hello:
    return Hello(
        node=message.node,
        session=message.session,
        boot_id=message.boot_id,
        host=message.host,
        address=message.address,
        node_rank=message.node_rank if message.HasField("node_rank") else None,
        version=message.version,
        labels=tuple(sorted(message.labels.items())),
        device_model=_line(message.device_model, 128),
    )


def _job(message: pb.ObservedJob) -> JobSeen | JobNews:
    return _news(message) if message.as_of else _whole(message)


def _news(message: pb.ObservedJob) -> JobNews:
    """There are as many ranks as the columns are long; the core knows whether that is right."""
    beats = _beats(message.beats, len(message.beats.section))
    ranks = len(beats.section)
    return JobNews(
        message.run_id,
        _line(message.user, 64),
        message.as_of,
        beats,
        _gaps(message) if message.gaps else (),
        _checkpoint(message),
        _all_checks(message, ranks) if message.checks else (),
        convert_checks.self_checks(message, ranks) if message.self_checks else (),
        _skipped(message) if message.skipped else (),
        convert_pace.pace(message.pace, _line) if message.HasField("pace") else None,
        convert_pace.batches(message.first_batches) if message.HasField("first_batches") else None,
    )


def _gaps(message: pb.ObservedJob) -> tuple[tuple[str, float], ...]:
    return tuple((_line(gap.section, 64), _seconds(gap.longest_s)) for gap in message.gaps[:SECTIONS_MAX])


def _checkpoint(message: pb.ObservedJob) -> int | None:
    return min(message.checkpoint_step, _COUNT_MAX) if message.checkpoint_known else None


def _all_checks(message: pb.ObservedJob, ranks: int) -> tuple[ChecksSeen, ...]:
    return tuple([checks for each in message.checks[:RANKS_MAX] if (checks := _checks(each, ranks))])


def _whole(message: pb.ObservedJob) -> JobSeen:
    shape = message.shape
    ranks = _processes(message)
    return JobSeen(
        run_id=message.run_id,
        user=_line(message.user, 64),
        handler=_HANDLERS.get(message.handler, "absent"),
        generation=message.generation,
        seen_generation=message.seen_generation,
        join_id=message.join_id,
        store=(message.store.host, message.store.port) if message.HasField("store") else None,
        shape=_shape(
            shape.min_nodes,
            shape.max_nodes,
            shape.ranks_per_node,
            tuple(shape.options.items()) if shape.options else (),
        ),
        ranks=ranks,
        beats=_beats(message.beats, len(ranks)) if len(ranks) == len(message.ranks) else NO_BEATS,
        old_ranks_alive=message.old_ranks_alive,
        gaps=_gaps(message) if message.gaps else (),
        checkpoint_step=_checkpoint(message),
        torchrun_pid=message.torchrun_pid,
        torchrun_exit_code=message.torchrun_exit_code if message.HasField("torchrun_exit_code") else None,
        stacks=tuple((stack.id, _lines(stack.text)) for stack in message.stacks[:STACKS_MAX]) if message.stacks else (),
        groups=tuple((_line(group.name, 64), _members(group)) for group in message.groups[:GROUPS_MAX])
        if message.groups
        else (),
        checks=_all_checks(message, len(ranks)) if message.checks else (),
        self_checks=convert_checks.self_checks(message, len(ranks)) if message.self_checks else (),
        skipped=_skipped(message) if message.skipped else (),
        rollback_wanted=min(message.rollback_wanted, _COUNT_MAX) if message.HasField("rollback_wanted") else None,
        pace=convert_pace.pace(message.pace, _line) if message.HasField("pace") else None,
        batches=convert_pace.batches(message.first_batches) if message.HasField("first_batches") else None,
    )


def _checks(message: pb.Checks, ranks: int) -> ChecksSeen | None:
    """None where a place has no rank or the columns do not fit each other."""
    places, steps, digests = tuple(message.rows), tuple(message.steps), tuple(message.digests)
    if not places or len(places) > ranks or max(places) >= ranks or message.group >= CHECK_GROUPS_MAX:
        return None
    if not steps or len(steps) != len(digests) or len(steps) > CHECKS_MAX or max(steps) > _COUNT_MAX:
        return None
    return places, message.group, tuple(zip(steps, digests, strict=True))


def _skipped(message: pb.ObservedJob) -> tuple[tuple[int, bool], ...]:
    newest = message.skipped[-SKIPS_MAX:]
    return tuple((min(each.step, _COUNT_MAX), each.nonfinite) for each in newest)


@lru_cache(maxsize=1024)
def _shape(min_nodes: int, max_nodes: int, ranks_per_node: int, options: tuple[tuple[str, str], ...]) -> Shape:
    return Shape(
        min(max(1, min_nodes), NODES_MAX),
        min(max(1, min_nodes, max_nodes), NODES_MAX),
        min(max(1, ranks_per_node), RANKS_MAX),
        tuple(sorted((_line(key, 64), _line(value, 64)) for key, value in options)),
    )


def _members(group: pb.Group) -> tuple[int, ...]:
    return tuple(rank for rank in group.ranks[:GROUP_RANKS_MAX] if rank < RANKS_MAX)


def _beats(beats: pb.Beats, ranks: int) -> Beats:
    """None where the columns are not as long as there are ranks. A slice of a column is a list, made in a third of the
    time that going through the column takes (measured: eight values 0.3 us, not 0.8)."""
    section, step, quiet_s = tuple(beats.section[:]), tuple(beats.step[:]), tuple(beats.quiet_s[:])
    step_age_s, steps_done = tuple(beats.step_age_s[:]), tuple(beats.steps_done[:])
    if not ranks or not len(section) == len(step) == len(quiet_s) == len(step_age_s) == len(steps_done) == ranks:
        return NO_BEATS
    sections = tuple([_line(name, 64) for name in beats.sections[:SECTIONS_MAX]])
    return Beats(
        sections,
        _numbers(section, len(sections)),
        _counts(step),
        _durations(quiet_s),
        _durations(step_age_s),
        _counts(steps_done),
        tuple([marks for each in beats.marks if (marks := _marks(each, ranks)) is not None]),
    )


def _processes(message: pb.ObservedJob) -> tuple[RankSeen, ...]:
    """The ranks, without what their pages say."""
    raw = pb.ObservedJob(ranks=message.ranks).SerializeToString()
    known = len(raw) <= min(_KNOWN_BYTES * len(message.ranks), _KNOWN_BYTES_MAX)
    return _known_processes(raw) if known else _new_processes(message)


@lru_cache(maxsize=1 << 13)
def _known_processes(ranks: bytes) -> tuple[RankSeen, ...]:
    """The same again for a node of whose ranks the same is said again, as mostly."""
    return _new_processes(pb.ObservedJob.FromString(ranks))


def _new_processes(message: pb.ObservedJob) -> tuple[RankSeen, ...]:
    return tuple([_process(rank) for rank in message.ranks if rank.rank < RANKS_MAX])


def _process(message: pb.ObservedRank) -> RankSeen:
    return RankSeen(
        message.rank,
        message.local_rank,
        message.pid,
        message.generation,
        _LIVES.get(message.life, "alive"),
        message.process_state[:1],
        _seconds(message.process_state_s),
        message.exit_code if message.HasField("exit_code") else None,
        message.killed_by_agent,
        _seconds(message.ended_ago_s),
        _line(message.error_type, 64),
        _line(message.error_message, 320),
        message.attached,
        message.oom_killed,
        _probe(message.probe) if message.HasField("probe") else None,
    )


def _marks(message: pb.Marks, ranks: int) -> KnownMarks | None:
    raw = message.SerializeToString()
    return _known_marks(raw, ranks) if len(raw) <= _KNOWN_BYTES_MAX else _new_marks(message, ranks)


@lru_cache(maxsize=1024)
def _known_marks(marks: bytes, ranks: int) -> KnownMarks | None:
    """Ranks in step say the same of the same steps on every node."""
    return _new_marks(pb.Marks.FromString(marks), ranks)


def _new_marks(message: pb.Marks, ranks: int) -> KnownMarks | None:
    """None where they are too many, a count is beyond all bounds or a place has no rank."""
    counts, places = tuple(message.counts), tuple(message.rows)
    if not counts or len(counts) > 2 * MARKS_MAX or max(counts) > _COUNT_MAX:
        return None
    if not places or len(places) > ranks or max(places) >= ranks:
        return None
    return places, tuple(zip(counts[::2], counts[1::2], strict=False))


def _probe(message: pb.Probe) -> Probe:
    return Probe(
        message.samples,
        _seconds(message.age_s),
        message.stack,
        _seconds(message.frozen_s),
        message.busy,
        message.in_collective,
        _line(message.wait_channel, 64),
        message.recorder,
        tuple(_collective(each) for each in message.collectives[:COLLECTIVES_MAX]),
    )


def _collective(message: pb.Collective) -> Collective:
    return Collective(
        _line(message.group, 64),
        min(message.sequence, _COUNT_MAX),
        _line(message.operation, 64),
        _line(message.shape, 120),
        message.done,
    )


def _numbers(values: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Those above `most` stand for nothing."""
    return values if max(values) <= most else tuple([value if value <= most else 0 for value in values])


def _counts(values: tuple[int, ...]) -> tuple[int, ...]:
    return values if max(values) <= _COUNT_MAX else tuple([min(value, _COUNT_MAX) for value in values])


def _durations(values: tuple[float, ...]) -> tuple[float, ...]:
    fine = min(values) >= 0.0 and sum(values) <= _SECONDS_MAX  # the sum with one that is not a number is none either
    return values if fine else tuple([_seconds(value) for value in values])


def _seconds(value: float) -> float:
    """A duration; 0 for what is none (not a number, below zero)."""
    return value if 0.0 < value <= _SECONDS_MAX else _SECONDS_MAX if _SECONDS_MAX < value < math.inf else 0.0


def _lines(text: str) -> str:
    return "\n".join(_line(line, 200) for line in text[:STACK_CHARS].splitlines())


@lru_cache(maxsize=8192)  # names of sections and operations come again with every report
def _line(text: str, length: int) -> str:
    """One printable line: no control character reaches a terminal."""
    return text[:length] if text.isprintable() else "".join(c if c.isprintable() else " " for c in text[:length])


def desired_state(desired: DesiredNode, version: int, session: str, acked_event_id: int) -> pb.DesiredState:
    return pb.DesiredState(
        version=version,
        coordinator_session=session,
        node_phase=desired.phase,
        reason=desired.reason,
        jobs=[_desired_job(job) for job in desired.jobs],
        acked_event_id=acked_event_id,
    )


def _desired_job(job: DesiredJob) -> pb.DesiredJob:
    message = pb.DesiredJob(
        run_id=job.run_id,
        user=job.user,
        generation=job.generation,
        go=job.go,
        place=_PLACES[job.place],
        inquiry=job.inquiry,
        stop_pids=job.stop_pids,
        exit_code=job.exit_code,
        reason=job.reason,
        torchrun_pid=job.torchrun_pid,
        evidence=job.evidence,
    )
    if job.world is not None:
        world = job.world
        message.world.CopyFrom(
            pb.World(
                generation=world.generation,
                size=len(world.nodes),
                group_rank=world.group_rank,
                store=pb.Endpoint(host=world.store[0], port=world.store[1]),
                uniform=world.uniform,
                join_id=world.join_id,
                resume_at_most=world.resume_at_most,
            )
        )
    return message
