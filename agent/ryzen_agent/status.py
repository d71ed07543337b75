"""`ryzen-agent status`: what this node's agent sees, asked through its socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf import json_format

from ryzen_protos import beat_columns, run_dir
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import local_pb2, local_pb2_grpc, node_pb2

UNREACHABLE_EXIT_CODE = 1
DEADLINE_S = 5.0

_PLACES = {
    node_pb2.DesiredJob.MEMBER: "member",
    node_pb2.DesiredJob.PARKED: "parked",
    node_pb2.DesiredJob.DISMISSED: "dismissed",
}


def show(folder: Path | None, as_json: bool) -> int:
    """Print it. Returns the exit code."""
    try:
        status = ask(folder if folder is not None else run_dir.default_path())
    except ConnectionError as error:
        sys.stderr.write(f"ryzen-agent status: {error}\n")
        return UNREACHABLE_EXIT_CODE
    text = json_format.MessageToJson(status, preserving_proto_field_name=True) if as_json else "\n".join(lines(status))
    sys.stdout.write(text + "\n")
    return 0


def ask(folder: Path) -> local_pb2.LocalStatus:
    """Raises ConnectionError with one line where no agent answers."""
    path = run_dir.agent_socket(folder)
    try:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            stub = local_pb2_grpc.LocalAgentStub(channel)
            status: local_pb2.LocalStatus = stub.Status(local_pb2.LocalStatusRequest(), timeout=DEADLINE_S)
            return status
    except grpc.RpcError as error:
        raise ConnectionError(
            f"no agent answers at {path}: start `ryzen-agent`, or set {run_dir.ENVIRONMENT} as it was set for it"
        ) from error


def lines(status: local_pb2.LocalStatus) -> Iterator[str]:
    """For people."""
    who = status.identity
    yield f"node {who.node} ({who.address}), agent {who.version} up {status.uptime_s:.0f} s"
    if status.connected:
        phase = status.desired.node_phase or "?"
        yield f"coordinator {status.coordinator}: connected, node is {phase} {status.desired.reason}".rstrip()
    else:
        yield f"coordinator {status.coordinator}: not connected ({status.last_error}); training goes on"
    if status.spooled_events:
        yield f"{status.spooled_events} events wait for the coordinator"
    for text in status.degraded:
        yield f"degraded: {text}"
    for condition in status.conditions:
        yield _condition_line(condition)
    if not status.jobs:
        yield "no job on this node"
    desired = {(job.run_id, job.user): job for job in status.desired.jobs}
    for job in status.jobs:
        yield from _job_lines(job, desired.get((job.run_id, job.user)))


def _condition_line(condition: node_pb2.HealthCondition) -> str:
    device = f" {condition.device}" if condition.device else ""
    whose = f" (ranks {', '.join(map(str, condition.ranks))})" if condition.ranks else ""
    return f"{condition.severity}: {condition.name}{device}{whose}, for {condition.age_s:.0f} s: {condition.message}"


def _job_lines(job: node_pb2.ObservedJob, desired: node_pb2.DesiredJob | None) -> Iterator[str]:
    handler = node_pb2.ObservedJob.Handler.Name(job.handler).lower()
    place = f", {_PLACES[desired.place]}" if desired is not None and desired.place in _PLACES else ""
    yield f"job {job.run_id} ({job.user}): generation {job.generation}, torchrun {handler}{place}"
    if handler == "absent":
        yield "  no rendezvous handler of ours: watched only"
    if desired is not None and desired.reason:
        yield f"  {desired.reason}"
    if job.HasField("pace"):
        yield f"  {_pace(job.pace)}"
    for rank, record in zip(job.ranks, beat_columns.unpack(job.beats, len(job.ranks)), strict=True):
        yield f"  rank {rank.rank:<5} pid {rank.pid:<8} {_life(rank, record)}"


def _pace(pace: node_pb2.Pace) -> str:
    """One line: "step 0.212 s, 12400 tokens/s, 24.2 samples/s, MFU 34.1 %, data 3 %, forward 31 %"."""
    words = [f"step {pace.step_s:.3g} s"]
    words += [f"{pace.tokens_per_s:.0f} tokens/s"] if pace.tokens_per_s else []
    words += [f"{pace.samples_per_s:.1f} samples/s"] if pace.samples_per_s else []
    if pace.flops_per_s and pace.peak_flops:
        words.append(f"MFU {pace.flops_per_s / pace.peak_flops:.1%}")
        if pace.hardware_flops_per_s > pace.flops_per_s:
            words.append(f"HFU {pace.hardware_flops_per_s / pace.peak_flops:.1%}")
    if pace.communication_s:
        words.append(f"communication {pace.communication_s / pace.step_s:.0%}")
    words += [
        f"{name or 'between sections'} {seconds / pace.step_s:.0%}"
        for name, seconds in zip(pace.sections, pace.section_s, strict=False)
        if seconds >= 0.005 * pace.step_s
    ]
    return ", ".join(words)


def _life(rank: node_pb2.ObservedRank, record: Record | None) -> str:
    if rank.life == node_pb2.ObservedRank.EXITED:
        code = f"exit code {rank.exit_code}" if rank.HasField("exit_code") else "exit code unknown"
        by_us = ", killed by the agent" if rank.killed_by_agent else ""
        return f"ended {rank.ended_ago_s:.1f} s ago, {code}{by_us} {_error(rank)}".rstrip()
    if rank.life == node_pb2.ObservedRank.FAILING:
        return f"failing: {_error(rank)}"
    if not rank.attached:
        return f"{rank.process_state}, sends no progress"
    if record is None:
        return f"{rank.process_state}, no step yet"
    where = f" in {record.section}" if record.section else ""
    return f"{rank.process_state}, step {record.step}{where}, quiet for {record.quiet_s:.1f} s"


def _error(rank: node_pb2.ObservedRank) -> str:
    return f"{rank.error_type}: {rank.error_message}" if rank.error_type else ""
