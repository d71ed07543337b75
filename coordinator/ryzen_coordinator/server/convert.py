"""Between the messages on the wire and the core's own types. No decision, no default that the core does not know."""

from __future__ import annotations

import re

from ryzen_coordinator.core.effects import DesiredJob, DesiredNode
from ryzen_coordinator.core.events import Handler, Hello, JobSeen, Life, NodeReport, ProgressSeen, RankSeen, Shape
from ryzen_protos.v1 import node_pb2 as pb

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Agent and handler refuse any other in words; here it only must not get into the journal or a terminal."""

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
        jobs=tuple(_job(job) for job in update.jobs if _RUN_ID.fullmatch(job.run_id)),
        answered_inquiry=update.answered_inquiry,
        clock_offset_s=(update.sent_unix_ns - now_unix_ns) / 1e9 if update.sent_unix_ns else 0.0,
    )


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
    )


def _job(message: pb.ObservedJob) -> JobSeen:
    shape = message.shape
    return JobSeen(
        run_id=message.run_id,
        user=message.user,
        handler=_HANDLERS.get(message.handler, "absent"),
        generation=message.generation,
        seen_generation=message.seen_generation,
        join_id=message.join_id,
        store=(message.store.host, message.store.port) if message.HasField("store") else None,
        shape=Shape(
            max(1, shape.min_nodes),
            max(1, shape.min_nodes, shape.max_nodes),
            max(1, shape.ranks_per_node),
            tuple(sorted(shape.options.items())),
        ),
        ranks=tuple(_rank(rank) for rank in message.ranks),
        old_ranks_alive=message.old_ranks_alive,
        gaps=tuple((gap.section, gap.longest_s) for gap in message.gaps),
        checkpoint_step=message.checkpoint_step if message.checkpoint_known else None,
        torchrun_pid=message.torchrun_pid,
        torchrun_exit_code=message.torchrun_exit_code if message.HasField("torchrun_exit_code") else None,
    )


def _rank(message: pb.ObservedRank) -> RankSeen:
    return RankSeen(
        message.rank,
        message.local_rank,
        message.pid,
        message.generation,
        _LIVES.get(message.life, "alive"),
        message.process_state,
        message.process_state_s,
        message.exit_code if message.HasField("exit_code") else None,
        message.killed_by_agent,
        message.ended_ago_s,
        message.error_type,
        message.error_message,
        message.attached,
        _progress(message.progress) if message.HasField("progress") else None,
    )


def _progress(message: pb.Progress) -> ProgressSeen:
    return ProgressSeen(message.step, message.section, message.quiet_s, message.step_age_s, message.steps_done)


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
    )
    if job.world is not None:
        world = job.world
        message.world.CopyFrom(
            pb.World(
                generation=world.generation,
                nodes=world.nodes,
                group_rank=world.group_rank,
                store=pb.Endpoint(host=world.store[0], port=world.store[1]),
                uniform=world.uniform,
                join_id=world.join_id,
            )
        )
    return message
