"""What each node should be, computed from the state alone. Nothing here decides anything."""

from __future__ import annotations

from ryzen_coordinator.core import growth
from ryzen_coordinator.core.effects import Desire, DesiredJob, DesiredNode, Place, WorldFor
from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.phases import OVER
from ryzen_coordinator.core.state import Cluster, Job

_GROWS = {
    "checkpoint": "is taken in after the next checkpoint (grow: checkpoint)",
    "now": "is taken in as soon as the world is up (grow: now)",
    "never": "stays out: the world does not grow (grow: never)",
}

_WAITS = "waits for other nodes: `ryzen-coordinator status` tells for which"
"""To the nodes of a large job, which would all be told anew with each node that comes."""


def flush(cluster: Cluster) -> list[Desire]:
    """The desired states that differ from what was sent last, for every node that may be concerned."""
    desires = []
    for name in sorted(cluster.stale):
        node = cluster.nodes.get(name)
        if node is None or not node.connected:
            continue
        desired = desired_node(cluster, node)
        if desired != node.sent:
            node.sent = desired
            desires.append(Desire(name, desired))
    cluster.stale.clear()
    return desires


def desired_node(cluster: Cluster, node: Node) -> DesiredNode:
    jobs = tuple(desired_job(cluster, job, node) for _, job in sorted(cluster.jobs.items()) if node.name in job.members)
    return DesiredNode(node.phase, node.reason, jobs)


def desired_job(cluster: Cluster, job: Job, node: Node) -> DesiredJob:
    place, reason = _place(cluster, job, node)
    return DesiredJob(
        run_id=job.run_id,
        user=job.user,
        generation=job.generation,
        go=job.go,
        place=place,
        world=_world(job, node.name) if place == "member" else None,
        inquiry=job.inquiry,
        stop_pids=job.stop_pids.get(node.name, ()),
        exit_code=job.exit_code or 0,
        reason=reason,
        torchrun_pid=job.members[node.name].seen.torchrun_pid,
        evidence=job.hang is not None and cluster.settings.hang_mode != "off",
    )


def _place(cluster: Cluster, job: Job, node: Node) -> tuple[Place, str]:
    if job.watched:
        return "unspecified", "another rendezvous backend: watched only"
    if job.phase in OVER:
        return "dismissed", job.note
    if job.formed and job.world is not None:
        member, size = node.name in job.world, len(job.world.nodes)
    else:
        wanted = job.plan.wanted if job.plan is not None else ()
        member, size = node.name in wanted, len(wanted)
    note = _WAITS if job.large and job.note and not job.formed else job.note
    if member:
        return "member", note
    if node.barred:
        return "parked", f"{node.phase}: {node.reason}" if node.reason else node.phase
    if job.phase == "forming":
        return "parked", note
    if size >= job.shape.max_nodes:
        return "parked", "spare: the world is full"
    return "parked", _GROWS[growth.policy(cluster, job)]


def _world(job: Job, name: str) -> WorldFor | None:
    world = job.world
    if world is None or not job.formed or world.store is None:
        return None
    group_rank = world.place[name]
    join_id = world.joins[group_rank][1]
    return WorldFor(
        world.generation, world.nodes, group_rank, world.store, world.uniform, join_id, world.resume_at_most
    )
