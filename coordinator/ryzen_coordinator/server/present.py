"""The core's state as the messages that people and tools are shown."""

from __future__ import annotations

import math
from dataclasses import asdict

import ryzen_protos
from ryzen_coordinator.core import incidents, pace
from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.health_record import Burst
from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.phases import WORLD_UP
from ryzen_coordinator.core.state import Cluster, Incident, Job
from ryzen_coordinator.server.accounts import job_time
from ryzen_protos.v1 import operator_pb2 as pb

_CLOCK_OFF_S = 1.0
"""The core compares no clocks of two machines; people who read logs do. NTP keeps a node within milliseconds."""
_MUTE_AFTER_S = 20.0
"""A script that imports torch for some seconds is not one that sends no progress."""
NO_PROGRESS = "sends no progress (the script does not call ryzen_trainer.attach): exits and lost nodes are still seen"


def cluster_status(cluster: Cluster, uptime_s: float) -> pb.ClusterStatus:
    return pb.ClusterStatus(
        version=ryzen_protos.__version__,
        uptime_s=uptime_s,
        jobs=[_job(cluster, job) for _, job in sorted(cluster.jobs.items())],
        nodes=[_node(cluster, node) for _, node in sorted(cluster.nodes.items())],
        open_incidents=sum(incident.state != "closed" for incident in cluster.incidents.values()),
    )


def incident_message(incident: Incident) -> pb.Incident:
    message = pb.Incident(
        id=incident.id,
        run_id=incident.run_id,
        state=incident.state,
        opened_unix_s=incident.opened_unix_s,
        generation=incident.generation,
        new_generation=incident.new_generation,
        stages_s={name: round(value, 4) for name, value in incidents.stages_s(incident).items()},
        timeline=incident.timeline,
        evidence=incident.evidence,
        step=incident.step,
        resumed_step=incident.resumed_step,
        considered=incident.considered,
        stacks=[pb.StackGroup(text=stack.text, ranks=stack.ranks) for stack in incident.stacks],
        ranks=[pb.RankMoment(**asdict(moment)) for moment in incident.ranks],
        resume_at_most=incident.resume_at_most,
        gpu_s={state: round(seconds, 3) for state, seconds in incident.gpu_s.items()},
    )
    if (verdict := incident.verdict) is not None:
        message.verdict.CopyFrom(
            pb.Verdict(
                fault_class=verdict.fault_class,
                ranks=verdict.ranks,
                nodes=verdict.nodes,
                action=verdict.action,
                reason=verdict.reason,
                confidence=verdict.confidence,
                advice=verdict.advice,
            )
        )
    return message


def _job(cluster: Cluster, job: Job) -> pb.JobStatus:
    world = job.world.nodes if job.world is not None else ()
    parked = sorted(name for name, member in job.members.items() if name not in world and cluster.reachable(member))
    quiet_s, limit_s = 0.0, 0.0
    if job.phase in WORLD_UP and job.sends_progress:
        sweep = job.table.sweep(job.gaps, silent_nodes(cluster, job), cluster.settings, cluster.now_s)
        quiet_s, limit_s = sweep.quiet_s, sweep.limit_s
    mute = job.phase in WORLD_UP and not job.sends_progress and cluster.now_s - job.formed_s > _MUTE_AFTER_S
    note = job.note or job.standing or (NO_PROGRESS if mute else "")
    return pb.JobStatus(
        run_id=job.run_id,
        user=job.user,
        phase=job.phase,
        generation=job.generation,
        world=world,
        parked=parked,
        min_nodes=job.shape.min_nodes,
        max_nodes=job.shape.max_nodes,
        world_size=job.world.ranks if job.world is not None else 0,
        step=job.table.top_step(),
        quiet_s=quiet_s,
        stall_after_s=limit_s,
        restarts=job.restarts,
        restart_budget=cluster.settings.restart_budget,
        checkpoint_step=job.checkpoint_step,
        sends_progress=job.sends_progress,
        note=note,
        exit_code=job.exit_code,
        pace=_pace(pace.of_job(job)),
        time=job_time(job, cluster.now_s),
    )


def _pace(found: pace.JobPace | None) -> pb.JobPace | None:
    if found is None:
        return None
    return pb.JobPace(
        ranks=found.ranks,
        step_s=found.step_s,
        tokens_per_s=found.tokens_per_s,
        samples_per_s=found.samples_per_s,
        mfu=found.mfu,
        hfu=found.hfu,
        flops_per_s=found.flops_per_s,
        section_share=found.sections,
        communication_share=found.communication,
        all_reduce_p50_s=found.all_reduce_p50_s,
        all_reduce_p99_s=found.all_reduce_p99_s,
        loss=_spread(found.loss) if found.loss is not None else None,
        learning_rate=found.learning_rate,
        data_advice=found.advice,
    )


def _spread(found: pace.Spread) -> pb.Spread:
    """JSON has no infinity."""
    figures = asdict(found)
    return pb.Spread(
        **{name: None if isinstance(each, float) and math.isinf(each) else each for name, each in figures.items()}
    )


def _node(cluster: Cluster, node: Node) -> pb.NodeStatus:
    return pb.NodeStatus(
        node=node.name,
        phase=node.phase,
        connected=node.connected,
        silent_s=max(0.0, cluster.now_s - node.heard_s),
        reason=node.reason,
        host=node.hello.host,
        address=node.hello.address,
        version=node.hello.version,
        jobs=sorted(job.run_id for job in cluster.jobs.values() if node.name in job.members),
        clock_offset_s=node.clock_offset_s,
        labels=dict(node.hello.labels),
        conditions=_conditions(cluster, node),
        faults=[_fault(cluster, burst) for burst in node.health.bursts],
    )


def _conditions(cluster: Cluster, node: Node) -> list[pb.NodeCondition]:
    """What the node says is wrong with it, and what we see: a clock that is off. Nothing is decided by that one."""
    health = node.health
    found = [
        pb.NodeCondition(
            name=each.name,
            device=each.device,
            severity=each.severity,
            message=each.message,
            age_s=each.age_s,
            pardoned=(each.name, each.device) in health.pardoned,
        )
        for each in health.conditions
    ]
    if abs(node.clock_offset_s) > _CLOCK_OFF_S and not cluster.silent_node(node.name):
        words = f"{node.clock_offset_s:+.1f} s against the coordinator: logs of the two cannot be put in order"
        found.append(pb.NodeCondition(name="clock.offset", severity="warning", message=words))
    return found


def _fault(cluster: Cluster, burst: Burst) -> str:
    ago_s = max(0.0, cluster.now_s + cluster.unix_offset_s - burst.last_unix_s)
    times = f", {burst.count} lines" if burst.count > 1 else ""
    return f"{burst.words()} -> {burst.action or 'no action'}, {ago_s / 60:.0f} min ago{times}"
