"""A node has fallen silent. Silence alone is no proof: an agent that died, or its network, looks the same.

A synchronous job cannot step unless every rank lives. So further steps of the *other* nodes acquit the silent one
(a fault of the management network: reported, nothing is done), and only when the others have stood still for
longer than they ever legitimately did is the node lost. A peer's failed collective corroborates at once; that
case is decided by the incident which the peer's failure has opened (recovery.py).

With no other node to look at, or with all of them silent, the fault is as likely ours: nothing is done. Nor is
anything while a stopped rank elsewhere explains why the others stand still.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import WORLD_UP
from ryzen_coordinator.core.state import Cluster, Job
from ryzen_coordinator.core.words import few

_SILENT_MANY, _SILENT_SHARE = 4, 10

STEPS_THAT_ACQUIT = 2
"""One step may have been in flight when the node fell silent; the second needed it."""


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    """Suspicions from what seems to be; `confirm` looks again when the other nodes have answered."""
    return [] if member is not None else _look(cluster, job, cluster.now_s)


def confirm(cluster: Cluster, job: Job) -> list[Suspicion]:
    """The lost nodes, by what the other nodes are known to have seen."""
    return [found for found in _look(cluster, job, None) if found.kind == "node_loss"]


def _look(cluster: Cluster, job: Job, seeming_s: float | None) -> list[Suspicion]:
    if not job.formed or job.phase not in WORLD_UP:
        return []
    silent = [each for each in cluster.silent_members(job) if not each.torchrun_gone]
    members = job.world_members() if silent else []
    if not any(cluster.reachable(each) for each in members):
        return []
    names = silent_nodes(cluster, job)
    explained = job.question is not None or bool(job.table.evidence(names, cluster.now_s))
    subject, least_s = _subject(cluster, silent)
    still = job.sends_progress and job.table.others_silent(names, job.gaps, cluster.settings, seeming_s, least_s)
    if subject and still and not explained:
        return [_lost(cluster, subject)]
    if len(silent) > max(_SILENT_MANY, len(members) // _SILENT_SHARE):
        return []  # so many at once: it is this side that does not keep up, and an incident for each would not help
    return [found for each in silent if (found := _acquitted(cluster, job, each)) is not None]


def _subject(cluster: Cluster, silent: list[Member]) -> tuple[list[Member], float]:
    """Who may be lost for nothing but silence, and how long the others must have stood still at least, in seconds.

    A stream that was closed is an agent that has died or left, far oftener than a node: it is started again within
    seconds, and a long evaluation may last just then. One that took its leave is no suspect at all.
    """
    mute = [member for member in silent if cluster.nodes[member.node].connected]
    if mute:
        return mute, 0.0
    return [member for member in silent if not cluster.nodes[member.node].said_goodbye], cluster.settings.gap_unknown_s


def _lost(cluster: Cluster, silent: list[Member]) -> Suspicion:
    """All that are silent, together: the others stand still for the sake of any of them."""
    nodes = tuple(sorted(member.node for member in silent))
    heard_s = max(member.heard_s for member in silent)
    words = f"{few(nodes)} silent for {cluster.now_s - heard_s:.1f} s, and no other node has advanced since"
    return Suspicion("node_loss", nodes, heard_s, evidence=(words,))


def _acquitted(cluster: Cluster, job: Job, member: Member) -> Suspicion | None:
    before, node = member.silence_step, member.node
    if before is None or member.network_incident is not None:
        return None
    if job.table.others_step(node) < before + STEPS_THAT_ACQUIT:
        return None
    words = f"{node} is silent for {cluster.now_s - member.heard_s:.1f} s, but the job steps on: its ranks live"
    return Suspicion("network", (node,), member.heard_s, (), (words,))
