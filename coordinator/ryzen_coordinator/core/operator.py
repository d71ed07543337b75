"""What a person asks for: a node out, a node in again. `check_*` say beforehand whether it can be, in words."""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import growth, membership
from ryzen_coordinator.core.events import OperatorEvict, OperatorReadmit
from ryzen_coordinator.core.phases import NODE_PHASES, WORLD_UP, can
from ryzen_coordinator.core.state import Cluster, Job
from ryzen_coordinator.core.words import few


def check(cluster: Cluster, event: OperatorEvict | OperatorReadmit) -> str | None:
    """Why it cannot be done, in one line; None if it can."""
    node = cluster.nodes.get(event.node)
    if node is None:
        known = few(sorted(cluster.nodes)) or "none"
        return f"no node {event.node!r} (known: {known})"
    trigger = "evicted" if isinstance(event, OperatorEvict) else "readmitted"
    if not can(NODE_PHASES, node.phase, trigger):
        return f"{event.node} is {node.phase} already" if trigger == "evicted" else f"{event.node} is not evicted"
    return None


def command(cluster: Cluster, event: OperatorEvict | OperatorReadmit) -> None:
    """Do it, if it can be done."""
    if check(cluster, event) is not None:
        return
    node = cluster.nodes[event.node]
    if isinstance(event, OperatorReadmit):
        # Whoever lets it in again knows what has happened there and what stands.
        pardoned = frozenset((each.name, each.device) for each in node.health.conditions)
        now_unix_s = cluster.now_s + cluster.unix_offset_s
        node.health = replace(node.health, readmitted_unix_s=now_unix_s, evicted_unix_s=0.0, pardoned=pardoned)
        cluster.node_moves(node, "readmitted")
        cluster.say("info", f"{node.name} is readmitted", node=node.name)
        return
    cluster.node_moves(node, "evicted", event.reason or "evicted by the operator")
    cluster.say("warning", f"{node.name} is evicted: {node.reason}", node=node.name)
    for job in cluster.jobs.values():
        if job.world is not None and job.formed and node.name in job.world and job.phase in WORLD_UP:
            membership.announce(cluster, job, f"{node.name} is evicted by the operator: {node.reason}")


def consequences(cluster: Cluster, node: str) -> list[str]:
    """What evicting the node means for the jobs on it, in words."""
    return [_consequence(cluster, job, node) for job in cluster.jobs.values() if _holds(job, node)]


def _holds(job: Job, node: str) -> bool:
    return job.world is not None and node in job.world and job.phase in WORLD_UP


def _consequence(cluster: Cluster, job: Job, node: str) -> str:
    spares = [
        name
        for name, member in job.members.items()
        if name != node and job.world and name not in job.world and membership.is_ready(cluster, job, member)
    ]
    left = len(job.world.nodes) - 1 if job.world else 0
    if spares:
        return f"{job.run_id}: {spares[0]} takes its place"
    if left >= job.shape.min_nodes:
        return f"{job.run_id}: goes on with {left} nodes (grow policy: {growth.policy(cluster, job)})"
    return f"{job.run_id}: waits for another node, it needs at least {job.shape.min_nodes}"
