"""Node phases that time and observation change; operators' moves are in operator.py."""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.phases import NODE_PHASES, OVER, can
from ryzen_coordinator.core.state import Cluster

_FORGOTTEN_AFTER = 30
"""A retired node is forgotten altogether after so many times `forget_s`."""


def watch(cluster: Cluster) -> None:
    """Look at every node, unless none can have fallen silent, and nothing else has happened, since the last time."""
    if cluster.now_s < cluster.calm_until_s:
        return
    speaking_s = [node.heard_s for node in cluster.nodes.values() if not cluster.silent_node(node.name)]
    cluster.calm_until_s = cluster.silent_from_s(min(speaking_s, default=cluster.now_s))
    for node in cluster.nodes.values():
        silent = cluster.silent_node(node.name)
        if silent and can(NODE_PHASES, node.phase, "silent"):
            cluster.node_moves(node, "silent", "its agent has left" if node.said_goodbye else "silent")
        elif node.phase == "draining":
            cluster.calm_until_s = cluster.now_s  # its ranks may end at any moment
            if _drained(cluster, node.name):
                cluster.node_moves(node, "drained", node.reason)


def take_out(cluster: Cluster, node: Node, words: str) -> None:
    """Out of every world until somebody readmits it; counts for the brake on evictions."""
    node.health = replace(node.health, evicted_unix_s=cluster.now_s + cluster.unix_offset_s)
    cluster.node_moves(node, "evicted", words)
    cluster.say("error", f"{node.name} is evicted until it is readmitted: {words}", node=node.name)


def retire(cluster: Cluster) -> None:
    """Forget jobs that have long been over; retire, and in the end forget, nodes that have long been away."""
    limit = cluster.settings.forget_s
    for key, job in list(cluster.jobs.items()):
        heard_s = max((member.heard_s for member in job.members.values()), default=0.0)
        if job.phase in OVER and cluster.now_s - max(job.over_s, heard_s) > limit:
            del cluster.jobs[key]
            cluster.durable[("job", job.record)] = None
    for node in list(cluster.nodes.values()):
        in_job = any(node.name in job.members for job in cluster.jobs.values())
        silence_s = cluster.now_s - node.heard_s
        if silence_s > limit and not in_job and can(NODE_PHASES, node.phase, "forgotten"):
            cluster.node_moves(node, "forgotten", "not seen for very long")
        elif node.phase == "retired" and silence_s > _FORGOTTEN_AFTER * limit:
            del cluster.nodes[node.name]
            cluster.durable[("node", node.name)] = None


def _drained(cluster: Cluster, node: str) -> bool:
    """No rank of any job lives on the node, as far as it can tell us."""
    members = [job.members[node] for job in cluster.jobs.values() if node in job.members]
    return all(cluster.silent(m) or all(rank.life == "exited" for rank in m.seen.ranks) for m in members)
